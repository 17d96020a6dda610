"""The first convolution of a video network, as a TPU likes it.

Video has 3 channels and a stem 64, of 128 that a TPU computes on at a time. Here the
frames under the kernel become channels, clips and frames fill the lanes of the input,
and two neighbouring columns those of the result (`stjax.ops.folding`). By the
compiler's estimate a stem of 5x7x7 with batch norm and max-pool on 8 x 128 x 224 x 224
takes 127 M cycles, and 151 without, 85 of them to copy arrays into other layouts.
"""

import jax
import jax.numpy as jnp
from jax import lax

from stjax.ops.folding import MAX_CHANNELS

Pairs = tuple[tuple[int, int], ...]


def video_conv(
    x: jax.Array,
    w: jax.Array,
    strides: tuple[int, ...],
    padding: Pairs,
    dilation: int,
    precision: object = None,
) -> jax.Array:
    """A 3-D convolution of few channels.

    Args:
      x: [B, T, H, W, C].
      w: [kt, kh, kw, C, C_out].
      strides: in time and space.
      padding: (low, high) pairs.
      dilation: of the kernel in time.
      precision: as in `jax.lax.conv_general_dilated`.

    Returns:
      [B, T', H', W', C_out].
    """
    taps, b = w.shape[0], x.shape[0]
    x = jnp.transpose(x, (2, 3, 4, 0, 1))  # clips are what a mesh may split
    parts = _under(x, taps, strides[0], padding[0], dilation)
    frames = parts[0].shape[4]
    x = jnp.concatenate(parts, axis=2)
    x = x.reshape(*x.shape[:3], b * frames)
    w = jnp.moveaxis(w, 0, 2).reshape(*w.shape[1:3], -1, w.shape[-1])
    (low, high), stride = padding[2], strides[2]
    columns = (x.shape[1] + low + high - w.shape[1]) // stride + 1
    copies = 2 if columns % 2 == 0 and w.shape[-1] <= MAX_CHANNELS else 1
    w = jnp.concatenate([_shifted(w, i, copies, stride) for i in range(copies)], -1)
    # What is left of the padding: the last cell may reach less far, or further.
    reach = (columns // copies - 1) * copies * stride + w.shape[1]
    y = lax.conv_general_dilated(
        x,
        w,
        (strides[1], copies * stride),
        (padding[1], (low, reach - low - x.shape[1])),
        dimension_numbers=("HWCN", "HWIO", "HWNC"),
        precision=precision,
    )
    h, _, _, features = y.shape
    y = y.reshape(*y.shape[:2], b, frames, features).transpose(2, 3, 0, 1, 4)
    return y.reshape(b, frames, h, columns, features // copies)


def _under(x, taps, stride, pad, dilation):
    """[H, W, C, B, T] -> for each tap in time the frames that it meets."""
    t = x.shape[4]
    count = (t + sum(pad) - (taps - 1) * dilation - 1) // stride + 1
    x = lax.pad(x, jnp.zeros((), x.dtype), _along_time(0, -t % stride))
    x = x.reshape(*x.shape[:4], -1, stride)
    parts = []
    for tap in range(taps):
        first, phase = divmod(tap * dilation - pad[0], stride)
        here = x[..., phase]
        widths = _along_time(-first, count + first - here.shape[4])
        parts.append(lax.pad(here, jnp.zeros((), x.dtype), widths))
    return parts


def _along_time(low, high):
    """For `jax.lax.pad`; less than none are cut off."""
    none = (0, 0, 0)
    return [none, none, none, none, (low, high, 0)]


def _shifted(w, place, copies, stride):
    """The kernel for one of the columns of a cell."""
    left = place * stride
    return jnp.pad(w, ((0, 0), (left, (copies - 1) * stride - left), (0, 0), (0, 0)))
