"""Depthwise convolution with a bias and, if wanted, the input added to the result.

On a TPU all of it is one kernel where it suits (`stjax.ops.depthwise_plan`): the bias
is what sums begin with, the input adds one to the tap in the middle, and the bias's
gradient is summed where that of the kernel is. XLA would pass over the maps for each.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.ops.conv import conv_nd
from stjax.ops.depthwise_plan import uses_kernel


def depthwise_bias(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array,
    *,
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    residual: bool = False,
) -> jax.Array:
    """``conv(x) + b``, or ``x + (conv(x) + b)``; stride 1.

    Args:
      x: ``[B, *spatial, C]``, 2 or 3 spatial dimensions.
      w: ``[*window, 1, C]``; with `residual` it keeps the sizes, and has a middle.
      b: [C].
      padding: (low, high) for each spatial dimension.
      dilation: of the kernel.
      residual: add `x`.
    """
    plain = partial(_plain, padding=padding, dilation=dilation, residual=residual)
    if not uses_kernel(x.shape, x.dtype, w.shape, padding, dilation):
        return plain(x, w, b)

    def by_hand(x, w, b):
        return _by_hand(x, w, b, padding, dilation, residual)

    return lax.platform_dependent(x, w, b, tpu=by_hand, default=plain)


def _plain(x, w, b, *, padding, dilation, residual):
    y = conv_nd(
        x,
        w,
        (1,) * len(padding),
        padding,
        rhs_dilation=dilation,
        feature_group_count=x.shape[-1],
    )
    y = y + b.reshape((1,) * (y.ndim - 1) + b.shape)
    return x + y if residual else y


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _by_hand(x, w, b, padding, dilation, residual):
    from stjax.ops import depthwise_kernel  # Pallas takes half a second to import

    w = _weights(w, residual)
    return depthwise_kernel.spread_forward(x, w, b, padding=padding, dilation=dilation)


def _forward(x, w, b, padding, dilation, residual):
    return _by_hand(x, w, b, padding, dilation, residual), (x, w, b)


def _backward(padding, dilation, residual, residuals, dy):
    from stjax.ops import depthwise_kernel

    x, w, b = residuals
    given = x, _weights(w, residual), dy
    dx, dw, db = depthwise_kernel.spread_gradient(
        *given, padding=padding, dilation=dilation
    )
    return dx, dw.astype(w.dtype), db.astype(b.dtype)


_by_hand.defvjp(_forward, _backward)


def _weights(w: jax.Array, residual: bool) -> jax.Array:
    """float32, with one more in the middle for the input itself."""
    w = w.astype(jnp.float32)
    if not residual:
        return w
    taps = w.reshape(-1, w.shape[-1])
    return taps.at[math.prod(w.shape[:-2]) // 2].add(1).reshape(w.shape)
