"""Sums over square windows that slide over the frame."""

import jax
from jax import lax


def window_sum(
    frames: jax.Array, size: int, *, zero_padding: bool = False
) -> jax.Array:
    """Sums of the size x size windows of ``[..., H, W, C]``, one after each axis.

    Args:
      frames: float frames, any number of leading axes.
      size: side of the window in pixels.
      zero_padding: False: only windows inside, ``[..., H-size+1, W-size+1, C]``. True:
        zeros around, a window for every pixel (the one before the middle if the size is
        even, as in SciPy).
    """
    ones, none = [1] * frames.ndim, [(0, 0)] * frames.ndim
    edge = (size // 2, (size - 1) // 2) if zero_padding else (0, 0)
    for axis in (-3, -2):
        window, padding = list(ones), list(none)
        window[axis], padding[axis] = size, edge
        frames = lax.reduce_window(frames, 0.0, lax.add, window, ones, padding)
    return frames
