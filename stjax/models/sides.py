"""What a model can take: clips, with sides that its stride divides or padding."""

import jax
import jax.numpy as jnp

from stjax.errors import UserError


def check_clip(x: jax.Array) -> None:
    """Raises a `UserError` unless `x` has the axes of a clip, [B, T, H, W, C]."""
    if x.ndim != 5:
        raise UserError(f"expected a clip [B, T, H, W, C], got shape {x.shape}")


def fit_sides(x: jax.Array, factor: int, pad: bool) -> jax.Array:
    """`x` with sides that `factor` divides, padded at the end with the edge's values.

    Args:
      x: [B, T, H, W, C].
      factor: by which the model shrinks the frames.
      pad: whether padding is allowed; the caller crops the prediction.

    Returns:
      [B, T, H', W', C].

    Raises:
      UserError: if it needs padding that is not allowed.
    """
    h, w = x.shape[2:4]
    if h % factor == w % factor == 0:
        return x
    if not pad:
        raise UserError(
            f"frames of {h}x{w} do not fit: sides must be divisible by {factor}; "
            "resize them or set model.pad_sides=True"
        )
    widths = ((0, 0), (0, 0), (0, -h % factor), (0, -w % factor), (0, 0))
    return jnp.pad(x, widths, mode="edge")
