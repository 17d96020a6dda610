"""Neighbouring columns of a map folded into its channels.

A TPU computes on 128 channels at a time: maps of 64 leave half of every register, of
the memory and three quarters of the matrix units empty. Folded, ``[N, H, W, C]`` is
``[N, H, W / 2, 2 C]``, the same numbers in the same order. An operation that wants that
folds what it gets and unfolds what it gives; between two of them XLA finds nothing to
do.
"""

import jax

MAX_CHANNELS = 64
"""More fill the lanes by themselves."""


def foldable(shape: tuple[int, ...]) -> bool:
    """Whether a map [..., W, C] can be folded, and has lanes to fill."""
    return shape[-2] % 2 == 0 and shape[-1] <= MAX_CHANNELS


def fold(x: jax.Array) -> jax.Array:
    """[..., W, C] -> [..., W / 2, 2 C], column parity major."""
    *rest, w, c = x.shape
    return x.reshape(*rest, w // 2, 2 * c)


def unfold(x: jax.Array) -> jax.Array:
    """The inverse of `fold`."""
    *rest, w, c = x.shape
    return x.reshape(*rest, 2 * w, c // 2)
