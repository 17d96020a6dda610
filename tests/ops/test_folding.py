"""Convolutions on folded columns are the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.ops.folded_conv import folded_conv
from stjax.ops.folding import fold, unfold
from stjax.ops.shuffle import pixel_shuffle, spread_pixels


@pytest.mark.parametrize(
    "k,stride,padding",
    [(1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 1, 2), (5, 2, 2), (7, 1, 3)],
)
def test_as_plain(k, stride, padding):
    rng = np.random.default_rng(0)
    x = jnp.float32(rng.standard_normal((2, 6, 8, 3)))
    w = jnp.float32(rng.standard_normal((k, k, 3, 4)))
    results = []
    for impl in ("folded", "plain"):
        y, pull = jax.vjp(lambda *a, i=impl: folded_conv(*a, stride, padding, i), x, w)
        dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
        results.append((y, *pull(dy)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


def test_lowers_for_every_platform():
    """And what a TPU gets is the folded form."""
    x = jax.ShapeDtypeStruct((2, 6, 8, 3), jnp.float32)
    w = jax.ShapeDtypeStruct((3, 3, 3, 4), jnp.float32)
    f = jax.jit(lambda x, w: folded_conv(x, w, 1, 1))
    jax.export.export(f, platforms=("cpu", "cuda", "tpu"))(x, w)
    texts = {
        platform: f.trace(x, w).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "tpu")
    }
    assert "3x3x6x8xf32" in texts["tpu"]
    assert "3x3x6x8xf32" not in texts["cpu"]


def test_fold():
    x = jnp.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(unfold(fold(x)), x)
    np.testing.assert_array_equal(fold(x)[:, :, 1, 5:], x[:, :, 3])


def test_spread_pixels_is_pixel_shuffle():
    x = jnp.arange(2 * 3 * 4 * 20).reshape(2, 3, 4, 20)  # channel c * 4 + pixel
    moved = x.reshape(2, 3, 4, 5, 4).swapaxes(-1, -2).reshape(x.shape)
    np.testing.assert_array_equal(spread_pixels(moved), pixel_shuffle(x))
