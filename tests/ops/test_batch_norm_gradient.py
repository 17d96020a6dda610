"""Batch normalisation against the formula, its gradient and PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.ops.batch_norm import batch_norm


def arrays(shape=(2, 6, 4, 5, 8), offset=3.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    x, dy = 2 * rng.standard_normal(shape) + offset, rng.standard_normal(shape)
    scale, bias = 1 + 0.3 * rng.standard_normal(8), rng.standard_normal(8)
    x, dy = (jnp.asarray(v, dtype) for v in (x, dy))
    return x, dy, jnp.float32(scale), jnp.float32(bias)


def plain(x, scale, bias):
    """By the definition; every group of its own."""
    axes = tuple(range(1, x.ndim - 1))
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=True)
    y = (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias
    return y, mean.reshape(-1, 8), var.reshape(-1, 8)


def both(f, x, scale, bias, dy):
    (y, *statistics), pull = jax.vjp(f, x, scale, bias)
    zeros = [jnp.zeros_like(s) for s in statistics]
    return (y, *statistics, *pull((dy, *zeros)))


def ours(x, scale, bias):
    return batch_norm(x, scale, bias, 1e-5, x.dtype)


def test_as_the_definition():
    x, dy, scale, bias = arrays()
    found = both(ours, x, scale, bias, dy)
    expected = both(plain, x, scale, bias, dy)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("columns", [6, 5])
def test_the_form_for_tpus_is_the_same(monkeypatch, columns):
    """With columns folded, where there are two for each cell."""
    x, dy, scale, bias = arrays((2, 6, 4, columns, 8))
    expected = both(plain, x, scale, bias, dy)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *a, tpu, default: tpu(*a))
    found = both(
        lambda *given: batch_norm(*given, 1e-5, x.dtype, True), x, scale, bias, dy
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_as_torch():
    torch = pytest.importorskip("torch")
    x, dy, scale, bias = arrays((1, 6, 4, 5, 8))
    leaves = [torch.tensor(np.array(v), requires_grad=True) for v in (x, scale, bias)]
    first = leaves[0][0].permute(0, 3, 1, 2)
    y = torch.nn.functional.batch_norm(first, None, None, *leaves[1:], training=True)
    y = y.permute(0, 2, 3, 1)[None]
    y.backward(torch.tensor(np.array(dy)))
    found = both(ours, x, scale, bias, dy)
    expected = (y.detach(), *(leaf.grad for leaf in leaves))
    for a, b in zip((found[0], *found[3:]), expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_one_pass_loses_nothing_of_a_bfloat16_input(offset):
    """As far from the truth as rounding its own result is, even off centre."""
    x, dy, scale, bias = arrays(offset=offset, dtype=jnp.bfloat16)
    found = both(ours, x, scale, bias, dy)
    wide = x.astype(jnp.float32), scale, bias, dy.astype(jnp.float32)
    for a, b in zip(found, both(plain, *wide), strict=True):
        if a.dtype == jnp.bfloat16:
            np.testing.assert_allclose(np.float32(a), b, rtol=2.0**-8, atol=2.0**-11)
        else:
            # Rounding x, 30 in steps of 1/8, adds 1/8^2 / 12 to its variance, 4.
            assert np.abs(a - b).max() < 1e-4 * np.abs(b).max()


def test_statistics_have_no_gradient():
    x, _, scale, bias = arrays()
    grad = jax.grad(lambda x: sum(s.sum() for s in ours(x, scale, bias)[1:]))(x)
    np.testing.assert_array_equal(grad, 0)
