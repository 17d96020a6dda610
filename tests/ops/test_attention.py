"""Attention in chunks is attention; the non-local aggregates against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.errors import UserError
from stjax.ops.attention import attention
from stjax.ops.pairwise import aggregate


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("bias_shape", [None, (3, 7, 5), (2, 1, 1, 5)])
def test_chunks_equal_dense_in_value_and_gradient(bias_shape):
    q, k, v = normal(2, 7, 3, 4), normal(2, 5, 3, 4), normal(2, 5, 3, 6)
    bias = None if bias_shape is None else normal(*bias_shape)

    @jax.jit
    def run(q, k, v, bias):
        def one(impl, chunk, *args):
            y = attention(*args[:3], scale=0.5, bias=args[3], impl=impl, chunk=chunk)
            return (y * jnp.sin(jnp.arange(6.0))).sum(), y

        def gradients(impl, chunk=None):
            argnums = range(3 if bias is None else 4)
            f = jax.grad(one, [n + 2 for n in argnums], has_aux=True)
            return f(impl, chunk, q, k, v, bias)

        chunked = [gradients("chunked", n) for n in (1, 3, 7, 100)]
        return gradients("dense"), [*chunked, gradients("auto")]

    dense, others = run(q, k, v, bias)
    logits = 0.5 * np.einsum("bnhd,bmhd->bhnm", q, k)
    weights = np.exp(logits if bias is None else logits + bias)
    weights /= weights.sum(-1, keepdims=True)
    y = np.einsum("bhnm,bmhe->bnhe", weights, v)
    np.testing.assert_allclose(dense[1], y, atol=1e-5)
    for other in others:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), other, dense
        )


def test_auto_goes_in_chunks_when_the_logits_are_many():
    def largest(n):
        x = jax.ShapeDtypeStruct((1, n, 8, 16), jnp.float32)
        jaxpr = jax.make_jaxpr(lambda x: attention(x, x, x))(x)
        return "scan" in str(jaxpr) or "while" in str(jaxpr)

    assert not largest(1024)  # 8 * 1024^2 logits
    assert largest(2048)


def test_softmax_is_float32_in_bfloat16():
    """Logits beyond bfloat16's 8 bits still tell two keys apart."""
    q = jnp.full((1, 1, 1, 1), 256.0, jnp.bfloat16)
    k = jnp.array([1.0, 1.0078125], jnp.bfloat16).reshape(1, 2, 1, 1)
    v = jnp.array([0.0, 1.0], jnp.bfloat16).reshape(1, 2, 1, 1)
    y = attention(q, k, v)
    assert y.dtype == jnp.bfloat16
    assert abs(float(y[0, 0, 0, 0]) - 1 / (1 + np.exp(-2.0))) < 0.004


def test_unknown_implementation():
    x = jnp.zeros((1, 2, 1, 2))
    with pytest.raises(ValueError, match="none of auto, dense, chunked"):
        attention(x, x, x, impl="flash")


@pytest.mark.parametrize("n,d", [(3, 8), (40, 4)])  # either order of the products
@pytest.mark.parametrize("pairwise", ["embedded_gaussian", "gaussian", "dot_product"])
def test_aggregates(pairwise, n, d):
    theta, phi, g = normal(2, n, d), normal(2, n + 1, d), normal(2, n + 1, d + 2)
    y = aggregate(theta, phi, g, pairwise=pairwise, scale=0.3)
    f = np.einsum("bnd,bmd->bnm", theta, phi)
    if pairwise == "dot_product":
        f /= n + 1
    else:
        f = np.exp(0.3 * f)
        f /= f.sum(-1, keepdims=True)
    np.testing.assert_allclose(y, f @ g, rtol=1e-4, atol=1e-5)


def test_unknown_aggregate():
    x = jnp.zeros((1, 2, 2))
    with pytest.raises(UserError, match="did you mean 'gaussian'"):
        aggregate(x, x, x, pairwise="gausian")
