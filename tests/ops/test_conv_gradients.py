"""The CPU's forms of convolution gradients against XLA's, in double precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.ops.dense import dense, pointwise
from stjax.ops.depthwise import depthwise


def reference(x, w, strides, padding, dilation, groups=1):
    spec = "DHW"[5 - x.ndim :]
    return jax.lax.conv_general_dilated(
        *(x, w, strides, padding),
        rhs_dilation=dilation,
        dimension_numbers=(f"N{spec}C", f"{spec}IO", f"N{spec}C"),
        feature_group_count=groups,
    )


def compare(f, g, x, w, tolerance):
    """Values and gradients of two functions of arrays of these shapes."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(tolerance < 1e-9):
        dtype = jnp.float64 if tolerance < 1e-9 else jnp.float32
        x, w = (jnp.asarray(rng.standard_normal(s), dtype) for s in (x, w))
        dy = jnp.asarray(rng.standard_normal(jax.eval_shape(g, x, w).shape), dtype)

        @jax.jit
        def run(x, w, dy):
            both = [jax.vjp(h, x, w) for h in (f, g)]
            return [(y, *pull(dy)) for y, pull in both]

        for got, want in zip(*run(x, w, dy), strict=True):
            assert got.shape == want.shape and got.dtype == dtype
            error = np.abs(got - want).max() / np.abs(want).max()
            assert error < tolerance


@pytest.mark.parametrize(
    ("height", "width", "window", "strides", "padding", "dilation"),
    [
        (40, 48, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),  # two blocks of rows
        (37, 40, (2, 3), (1, 1), ((1, 0), (1, 1)), (1, 1)),  # one row after another
        (9, 8, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
        (10, 9, (2, 3), (3, 2), ((-1, 2), (2, -2)), (2, 1)),
        (9, 9, (3, 5), (1, 2), ((2, 2), (3, 4)), (1, 2)),
    ],
)
def test_patches_of_a_block_of_rows(height, width, window, strides, padding, dilation):
    args = strides, padding, dilation
    compare(
        lambda x, w: dense(x, w, *args),
        lambda x, w: reference(x, w, *args),
        (2, height, width, 16),
        (*window, 16, 5),
        1e-12,
    )


@pytest.mark.parametrize("spatial", [(), (3,), (4, 5), (2, 4, 3)])
def test_pointwise(spatial):
    window = (1,) * len(spatial)
    if spatial:
        native = partial(
            reference, strides=window, padding=((0, 0),) * len(window), dilation=window
        )
    else:
        native = jnp.matmul
    compare(pointwise, native, (2, *spatial, 6), (*window, 6, 5), 1e-12)


@pytest.mark.parametrize(
    ("shape", "window", "dilation"),
    [
        ((2, 5, 16, 8), (3, 3), (1, 1)),  # a whole row a step
        ((2, 3, 32, 8), (3, 5), (1, 3)),  # half a row
        ((1, 2, 3, 14, 6), (3, 2, 3), (1, 2, 2)),
        ((2, 28, 4), (4,), (2,)),
        ((1, 3, 8, 700), (3, 3), (1, 1)),  # two blocks of 350 channels
        ((1, 4, 7, 4), (3, 3), (2, 1)),
        ((1, 4, 11, 4), (3, 3), (1, 2)),  # no such steps: a tap after another
    ],
)
def test_depthwise_from_rows(shape, window, dilation):
    reach = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    padding = tuple((r // 2, r - r // 2) for r in reach)
    native = partial(
        reference,
        strides=(1,) * len(window),
        padding=padding,
        dilation=dilation,
        groups=shape[-1],
    )
    shift = partial(depthwise, padding=padding, dilation=dilation, impl="shift")
    compare(shift, native, shape, (*window, 1, shape[-1]), 2e-6)
