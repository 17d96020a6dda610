"""Dense convolution with gradients that XLA:CPU computes quickly everywhere.

XLA:CPU brings the two convolutions of a gradient into the layout of its fast path only
outside loops. Inside `jax.lax.scan` (recurrent models, scanned blocks) they run a
hundred times slower. Here they are written in that layout from the start; elsewhere
they are XLA's own.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.sharding.activations import devices_along

Pairs = tuple[tuple[int, int], ...]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def dense(
    x: jax.Array,
    w: jax.Array,
    strides: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    precision: object = None,
) -> jax.Array:
    """Convolution without groups; reverse mode only (`jax.jvp` raises).

    Args:
      x: [B, *spatial, C_in].
      w: [*window, C_in, C_out].
      strides: for each spatial dimension.
      padding: (low, high) for each spatial dimension.
      dilation: of the kernel, for each spatial dimension.
      precision: as in `jax.lax.conv_general_dilated`.

    Returns:
      [B, *spatial', C_out].
    """
    return _conv(x, w, strides, padding, dilation, precision)


def _conv(x, w, strides, padding, dilation, precision):
    spec = "DHW"[5 - x.ndim :]
    return lax.conv_general_dilated(
        x,
        w,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{spec}C", f"{spec}IO", f"N{spec}C"),
        precision=precision,
    )


def _forward(x, w, strides, padding, dilation, precision):
    return dense(x, w, strides, padding, dilation, precision), (x, w)


def _backward(strides, padding, dilation, precision, residuals, dy):
    args = strides, padding, dilation, precision

    def native(x, w, dy):
        return jax.vjp(lambda x, w: _conv(x, w, *args), x, w)[1](dy)

    def canonical(x, w, dy):
        return _input_gradient(x, w, dy, *args), _kernel_gradient(x, w, dy, *args)

    x, w = residuals
    if devices_along("height") > 1:  # XLA splits the rows of its own form best
        return native(x, w, dy)
    return lax.platform_dependent(x, w, dy, cpu=canonical, default=native)


dense.defvjp(_forward, _backward)


def _input_gradient(x, w, dy, strides, padding, dilation, precision):
    """`dy`, spread by the strides, convolved with the reversed kernel."""
    n = len(strides)
    w = jnp.flip(w, tuple(range(n))).swapaxes(-1, -2)
    sides = []
    for i in range(n):
        low = (w.shape[i] - 1) * dilation[i] - padding[i][0]
        spread = (dy.shape[i + 1] - 1) * strides[i] + 1
        high = x.shape[i + 1] + padding[i][0] - spread
        sides.append((low, high))
    dy = _pad(dy, sides, strides)
    return _conv(dy, w, (1,) * n, ((0, 0),) * n, dilation, precision).astype(x.dtype)


def _kernel_gradient(x, w, dy, strides, padding, dilation, precision):
    """`x` convolved with `dy`: channels take the part of the batch."""
    n = len(strides)
    sides = []
    for i in range(n):
        low = padding[i][0]
        reach = (w.shape[i] - 1) * dilation[i] + (dy.shape[i + 1] - 1) * strides[i] + 1
        sides.append((low, reach - x.shape[i + 1] - low))
    x = _pad(x, sides, (1,) * n).swapaxes(0, -1)  # [C_in, *spatial, B]
    dy = jnp.moveaxis(dy, 0, -2)  # [*spatial', B, C_out]
    dw = _conv(x, dy, dilation, ((0, 0),) * n, strides, precision)
    return jnp.moveaxis(dw, 0, -2).astype(w.dtype)  # from [C_in, *window, C_out]


def _pad(x, sides, strides):
    """Zeros around (negative: cropped) and between the values."""
    inner = [(low, high, s - 1) for (low, high), s in zip(sides, strides, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])
