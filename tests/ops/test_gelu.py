"""The exact GELU against its closed form, and its gradient against differentiation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.ops.gelu import gelu


def expected(x):
    """x Phi(x) and its derivative in Python's double precision."""
    below = [0.5 * math.erfc(-v / math.sqrt(2)) for v in x]
    density = [math.exp(-v * v / 2) / math.sqrt(2 * math.pi) for v in x]
    values = [v * p for v, p in zip(x, below, strict=True)]
    slopes = [p + v * d for v, p, d in zip(x, below, density, strict=True)]
    return np.array(values), np.array(slopes)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-15), ("float32", 5e-7), ("bfloat16", 4e-2)]
)
def test_value_and_slope(dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.concatenate([jnp.linspace(-9, 9, 181), jnp.array([0.0, -40.0, 40.0])])
        x = x.astype(dtype)
        y, pull = jax.vjp(gelu, x)
        (slope,) = pull(jnp.ones_like(y))
        assert y.dtype == slope.dtype == x.dtype
        got = np.asarray(y, np.float64), np.asarray(slope, np.float64)
        for a, b in zip(got, expected(np.asarray(x, np.float64)), strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_as_jax():
    x = jax.random.normal(jax.random.key(0), (4, 33)) * 3
    scale = jax.random.normal(jax.random.key(1), x.shape)
    grads = [
        jax.grad(lambda x, f=f: (f(x) * scale).sum())(x)
        for f in (gelu, lambda x: jax.nn.gelu(x, approximate=False))
    ]
    np.testing.assert_allclose(*grads, rtol=1e-5, atol=1e-6)


def test_keeps_its_input_only():
    x = jnp.zeros(1000)
    kept = jax.tree.leaves(jax.vjp(gelu, x)[1])
    assert sum(leaf.size for leaf in kept if hasattr(leaf, "size")) == x.size
