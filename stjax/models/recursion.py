"""Any horizon from a predictor of a fixed one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from stjax.errors import UserError


def extend(
    predict: Callable[[jax.Array], jax.Array], x: jax.Array, frames: int
) -> jax.Array:
    """Feeds predictions back until there are `frames` of them.

    Every call sees the last T_in frames known so far; where a call predicts T_in
    frames these are its own predictions only (OpenSTL's rule). Gradients flow
    through all calls; nothing is clipped in between.

    A model that does this has ``feeds_back = True``: `stjax.rollout` then does the
    same call by call, for as many frames as one likes.

    Args:
      predict: [B, T_in, H, W, C] -> [B, T_block, H, W, C_out].
      x: [B, T_in, H, W, C].
      frames: how many to predict, at least 1.

    Returns:
      [B, frames, H, W, C_out].

    Raises:
      UserError: if `frames` is below 1, or exceeds one call and C_out differs from C.
    """
    if frames < 1:
        raise UserError(f"frames must be at least 1, got {frames}")
    t_in = x.shape[1]
    blocks = [predict(x)]
    done = blocks[0].shape[1]
    while done < frames:
        last = blocks[-1]
        if last.shape[-1] != x.shape[-1]:
            raise UserError(
                f"{frames} frames need predictions as input, but the model reads "
                f"{x.shape[-1]} channels and predicts {last.shape[-1]}; ask for at "
                f"most {done} frames or set model.t_out={frames}"
            )
        x = jnp.concatenate([x, last], axis=1)[:, -t_in:]
        blocks.append(predict(x))
        done += last.shape[1]
    return jnp.concatenate(blocks, axis=1)[:, :frames]
