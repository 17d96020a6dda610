"""What every metric does first: float32, equal shapes, and no-data cells set to 0."""

import jax
import jax.numpy as jnp

from stjax.errors import UserError

FRAME = (-3, -2, -1)  # the axes H, W, C


def prepare(
    pred: jax.Array, target: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``pred``, ``target`` and the mask (1 = valid), all ``[..., T, H, W, C]`` float32.

    Cells that are not valid become 0 in both, whatever they held (NaN included).
    Without a mask every cell is valid.

    Raises:
      UserError: the shapes differ.
    """
    if pred.shape != target.shape:
        raise UserError(
            f"the prediction has shape {pred.shape}, the target {target.shape}; "
            "a metric compares two equal shapes [B, T, H, W, C]"
        )
    pred, target = pred.astype(jnp.float32), target.astype(jnp.float32)
    if mask is None:
        return pred, target, jnp.ones_like(target)
    valid = jnp.broadcast_to(mask, target.shape) > 0
    return (
        jnp.where(valid, pred, 0),
        jnp.where(valid, target, 0),
        valid.astype(jnp.float32),
    )
