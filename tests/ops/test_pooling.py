"""Max-pooling against Flax's, and its gradient against PyTorch's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.ops import pooling
from stjax.ops.pooling import max_pool

# Windows of the video networks; the last has strides below the window in time, too.
CASES = [
    ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    ((1, 3, 3), (1, 2, 2), (0, 0, 0)),
    ((2, 3, 3), (2, 2, 2), (0, 0, 0)),
    ((2, 1, 1), (2, 1, 1), (0, 0, 0)),
    ((1, 2, 2), (1, 2, 2), (0, 0, 0)),
    ((1, 3, 3), (2, 2, 2), (0, 1, 1)),
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
]


def values(equal):
    """Some of them equal, as after a ReLU, or all different."""
    rng = np.random.default_rng(0)
    shape = (2, 5, 7, 8, 3)
    if equal:
        return rng.integers(-2, 3, shape).astype(np.float32)
    return rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32) - 800


@pytest.mark.parametrize("window,strides,padding", CASES)
def test_as_flax(window, strides, padding):
    pads = [(p, p) for p in padding]
    for x in (values(False), values(True)):
        ours = max_pool(x, window, strides, padding)
        theirs = nn.max_pool(x, window, strides, pads)
        np.testing.assert_array_equal(ours, theirs)
    weights = np.random.default_rng(1).standard_normal(ours.shape).astype(np.float32)
    x = jnp.asarray(values(False))
    ours, theirs = (
        jax.grad(lambda x, f=f: (weights * f(x)).sum())(x)
        for f in (
            lambda x: max_pool(x, window, strides, padding),
            lambda x: nn.max_pool(x, window, strides, pads),
        )
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_the_first_of_equal_values_gets_the_gradient():
    """PyTorch: of a window of ones the first; of a new maximum that one."""
    x = jnp.array([1.0, 1.0, 0.0, 2.0, 2.0, 2.0])[None, :, None]
    grad = jax.grad(lambda x: max_pool(x, (3,), (3,)).sum())(x)
    np.testing.assert_array_equal(grad[0, :, 0], [1, 0, 0, 1, 0, 0])


@pytest.mark.parametrize("window,strides,padding", CASES)
def test_gradient_as_torch(window, strides, padding):
    torch = pytest.importorskip("torch")
    x = values(True)
    y = max_pool(x, window, strides, padding)
    weights = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    ours = jax.grad(lambda x: (weights * max_pool(x, window, strides, padding)).sum())
    there = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    out = torch.nn.functional.max_pool3d(there, window, strides, padding)
    (out * torch.tensor(np.moveaxis(weights, -1, 1).copy())).sum().backward()
    theirs = np.moveaxis(there.grad.numpy(), 1, -1)
    np.testing.assert_allclose(ours(jnp.asarray(x)), theirs, rtol=1e-6, atol=1e-6)


def test_low_precision():
    x = values(False).astype(jnp.bfloat16)
    y = max_pool(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    assert y.dtype == jnp.bfloat16


@pytest.mark.parametrize("window,strides,padding", CASES)
def test_the_form_for_tpus_is_the_same(window, strides, padding):
    """Values, and who gets the gradient among equal ones."""
    x = jnp.asarray(values(True))
    weights = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    def both(pool):
        y, pull = jax.vjp(lambda x: pool(x, window, strides, padding), x)
        return y, pull(weights[:, : y.shape[1], : y.shape[2], : y.shape[3]])[0]

    for ours, native in zip(
        both(pooling._max_pool), both(pooling._native), strict=True
    ):
        np.testing.assert_allclose(ours, native, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "window,strides,padding", [c for c in CASES if (c[0][-1], c[1][-1]) == (3, 2)]
)
def test_folded_columns_are_the_same(window, strides, padding):
    """The largest value, and where none are equal its gradient."""
    for equal in (True, False):
        x = jnp.asarray(values(equal))
        results = []
        for pool in (pooling._folded, pooling._native):
            y, pull = jax.vjp(lambda x, p=pool: p(x, window, strides, padding), x)
            dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
            results.append((y,) if equal else (y, *pull(dy)))
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_lowering_follows_the_platform():
    grad = jax.grad(lambda x: jnp.square(max_pool(x, (1, 3, 3), (1, 2, 2))).sum())
    traced = jax.jit(grad).trace(jax.ShapeDtypeStruct((2, 4, 8, 8, 3), jnp.float32))
    for platform, scatters in [("cpu", False), ("tpu", True), ("cuda", False)]:
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("select_and_scatter" in text) == scatters, platform
