"""Sums over square windows that slide over the frame."""

import jax
from jax import lax


def window_sum(frames: jax.Array, size: int, *, padding: str = "VALID") -> jax.Array:
    """Sums of all size x size windows of ``[..., H, W, C]``, one after each axis.

    Args:
      frames: float frames, any number of leading axes.
      size: side of the window in pixels.
      padding: ``'VALID'``: only windows inside, ``[..., H-size+1, W-size+1, C]``;
        ``'SAME'``: zeros around, the frame keeps its size.
    """
    ones = (1,) * frames.ndim
    for axis in (-3, -2):
        window = list(ones)
        window[axis] = size
        frames = lax.reduce_window(frames, 0.0, lax.add, tuple(window), ones, padding)
    return frames
