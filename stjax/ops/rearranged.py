"""Dense convolutions as matrix products or denser convolutions, by moving data first.

XLA:CPU multiplies matrices near the peak of the machine. It convolves slowly where a
kernel steps over pixels, has few channels or spans only time; here each of these
becomes a product, or a convolution that is quick. The sums are the same.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.ops.dense import dense, pointwise
from stjax.ops.video_conv import video_conv

FEW = 16
"""Channels, times taps in time, with which a strided kernel counts as slow."""

Pairs = tuple[tuple[int, int], ...]


def choose(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
) -> str | None:
    """The function of this file that is worth it for a convolution, by its name.

    Args:
      shape: of the input ``[B, *spatial, C]``.
      kernel: its shape ``[*window, C, C_out]``.
      strides: for each spatial dimension.
      padding: (low, high) pairs.
      dilation: of the kernel.
    """
    *window, channels, features = kernel
    if len(window) < 2 or any(min(pair) < 0 for pair in padding):
        return None
    single = math.prod(window) == 1 and not any(map(any, padding))
    if single:
        return "strided" if math.prod(strides) > 1 else None
    three_d, space = len(window) == 3, slice(len(window) == 3, None)
    if three_d and window[1:] == [1, 1] and not any(map(any, padding[1:])):
        # Narrower results than inputs: see `temporal`.
        return "temporal" if math.prod(strides) == 1 and features <= channels else None
    steps = strides[space]
    if math.prod(dilation[space]) > 1 or min(steps) < 2:
        return None
    few = three_d and channels * window[0] <= FEW
    return "cells" if few or tuple(window[space]) == steps else None


def strided(
    x: jax.Array,
    w: jax.Array,
    strides: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    precision: object,
) -> jax.Array:
    """A window of one with strides: what is stepped over is left out first.

    Args: those of `stjax.ops.conv.conv_nd`, as of the other functions.
    """
    x = lax.slice(x, (0,) * x.ndim, x.shape, (1, *strides, 1))
    return pointwise(x, w, precision)


def temporal(
    x: jax.Array,
    w: jax.Array,
    strides: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    precision: object,
) -> jax.Array:
    """``(kt, 1, 1)`` with stride 1: one product for all taps, then a sum over frames.

    So the results of the taps are shifted, which are mostly narrower than the inputs.
    """
    taps, features = w.shape[0], w.shape[-1]
    w = w.reshape(taps, -1, features).swapaxes(0, 1)
    y = pointwise(x, w.reshape(-1, taps * features), precision)
    return _add_shifted(y, taps, padding[0], dilation[0])


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _add_shifted(y, taps, pad, step):
    """[B, T, ..., taps C] -> [B, T', ..., C]: sum_i y[t + i step - low, ..., i]."""
    c = y.shape[-1] // taps
    y = _more_frames(y, pad)
    frames = y.shape[1] - (taps - 1) * step
    parts = [
        y[:, i * step : i * step + frames, ..., i * c : (i + 1) * c].astype(jnp.float32)
        for i in range(taps)
    ]
    return sum(parts[1:], parts[0]).astype(y.dtype)


def _shifted_forward(y, taps, pad, step):
    return _add_shifted(y, taps, pad, step), None


def _shifted_backward(taps, pad, step, _, dy):
    reach = (taps - 1) * step
    frames = dy.shape[1] + reach - sum(pad)
    dy = _more_frames(dy, (reach, reach))
    starts = [reach - i * step + pad[0] for i in range(taps)]
    return (jnp.concatenate([dy[:, s : s + frames] for s in starts], axis=-1),)


_add_shifted.defvjp(_shifted_forward, _shifted_backward)


def _more_frames(y, pad):
    """Zeros before and after; copied, which XLA:CPU does faster than it pads."""
    zeros = [jnp.zeros((y.shape[0], n, *y.shape[2:]), y.dtype) for n in pad]
    return jnp.concatenate([zeros[0], y, zeros[1]], axis=1) if any(pad) else y


def cells(
    x: jax.Array,
    w: jax.Array,
    strides: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    precision: object,
) -> jax.Array:
    """Taps in time, and the pixels of a stride, become channels; then stride 1.

    So a kernel that cuts patches is a matrix product. One of 5x7x7 with stride
    (1, 2, 2) on 3 channels is a 4x4 one on 60 (a kernel that the stride does not divide
    gets zeros): for its gradient. Forwards a 7x7 one on 15 with stride 2 is quicker.
    """
    if x.ndim == 5:
        x, w = _frames_to_channels(x, w, strides[0], padding[0], dilation[0])
    b, t = x.shape[:2]
    x = x.reshape(-1, *x.shape[-3:])
    patches = all(k <= s for k, s in zip(w.shape, strides[-2:], strict=False))
    form = _pixels_to_channels if patches else _few
    y = form(x, w, strides[-2:], padding[-2:], precision)
    return y.reshape(b, t, *y.shape[1:]) if len(strides) == 3 else y


def frames(
    x: jax.Array,
    w: jax.Array,
    strides: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    precision: object,
) -> jax.Array:
    """`cells` for TPUs: see `stjax.ops.video_conv`."""
    if x.ndim == 5 and (w.shape[1] > strides[1] or w.shape[2] > strides[2]):
        return video_conv(x, w, strides, padding, dilation[0], precision)
    return cells(x, w, strides, padding, dilation, precision)


def _pixels_to_channels(x, w, strides, padding, precision):
    """The 2-D convolution whose channels are the pixels of a stride, with stride 1."""
    (sh, sw), pads = strides, []
    for size, k, s, (low, high) in zip(
        x.shape[1:3], w.shape, strides, padding, strict=False
    ):
        out = (size + low + high - k) // s + 1
        pads.append((low, (out - 1 + -(-k // s)) * s - size - low, 0))
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    more = [(0, -k % s) for k, s in zip(w.shape[:2], strides, strict=True)]
    w = jnp.pad(w, (*more, (0, 0), (0, 0)))
    n, h, width, c = x.shape
    x = x.reshape(n, h // sh, sh, width // sw, sw, c).swapaxes(2, 3)
    x = x.reshape(n, h // sh, width // sw, -1)
    kh, kw = w.shape[:2]
    w = w.reshape(kh // sh, sh, kw // sw, sw, *w.shape[2:]).swapaxes(1, 2)
    w = w.reshape(kh // sh, kw // sw, -1, w.shape[-1])
    if w.shape[:2] == (1, 1):
        return pointwise(x, w, precision)
    return dense(x, w, (1, 1), ((0, 0), (0, 0)), (1, 1), precision)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _few(x, w, strides, padding, precision):
    """XLA's forwards; the gradient, which prefers more channels, as rearranged."""
    return dense(x, w, strides, padding, (1, 1), precision)


def _few_forward(x, w, *args):
    return _few(x, w, *args), (x, w)


def _few_backward(strides, padding, precision, residuals, dy):
    def moved(x, w):
        return _pixels_to_channels(x, w, strides, padding, precision)

    return jax.vjp(moved, *residuals)[1](dy)


_few.defvjp(_few_forward, _few_backward)


def _frames_to_channels(x, w, stride, pad, dilation):
    """[B, T, H, W, C] -> [B, T', H, W, kt C], and the 2-D kernel for it."""
    taps = w.shape[0]
    x = _more_frames(x, pad)
    frames = (x.shape[1] - (taps - 1) * dilation - 1) // stride + 1
    reach = (frames - 1) * stride + 1
    starts = [i * dilation for i in range(taps)]
    parts = [lax.slice_in_dim(x, s, s + reach, stride, axis=1) for s in starts]
    w = jnp.moveaxis(w, 0, 2)
    return jnp.concatenate(parts, axis=-1), w.reshape(*w.shape[:2], -1, w.shape[-1])


FORMS: dict[str, Callable] = {
    "strided": strided,
    "temporal": temporal,
    "cells": cells,
    "frames": frames,
}
