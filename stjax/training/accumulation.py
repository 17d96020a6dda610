"""The gradient of a batch that does not fit, from parts of it one after another."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from stjax.sharding.activations import constrain

Batch = dict[str, jax.Array]


def gradients(
    loss: Callable[..., tuple[jax.Array, dict]],
    params: dict,
    collections: dict,
    batch: Batch,
    rng: jax.Array,
    count: int,
) -> tuple[jax.Array, dict, dict]:
    """The loss of a batch, its gradient and the collections after it.

    Losses of parts are added, so they have to be shares of the batch's: a sum over
    the clips of a part divided by what the whole batch is divided by. Then the
    gradient is that of the whole batch, however its padding is spread. What a model
    computes over a batch it computes over each part: batch statistics are those of
    parts ("ghost" batch normalisation), and the running ones go from part to part.

    Args:
      loss: ``(params, collections, batch, rng) -> (loss, collections)``.
      params: to differentiate by.
      collections: before the batch.
      batch: arrays [B, ...]; `count` divides B.
      rng: part k has ``fold_in(rng, k)``; a single part the key itself.
      count: how many parts.

    Returns:
      The loss, the collections after the last part, the gradient.
    """
    of_part = jax.value_and_grad(loss, has_aux=True)
    if count == 1:
        (value, collections), grads = of_part(params, collections, batch, rng)
        return value, collections, grads

    def add(carry, part):
        total, collections, grads = carry
        index, batch = part
        key = jax.random.fold_in(rng, index)
        (value, collections), new = of_part(params, collections, batch, key)
        return (total + value, collections, jax.tree.map(jnp.add, grads, new)), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    start = jnp.zeros(()), collections, zeros
    parts = jnp.arange(count), split(batch, count)
    (value, collections, grads), _ = jax.lax.scan(add, start, parts)
    return value, collections, grads


def split(batch: Batch, count: int) -> Batch:
    """Arrays [B, ...] in parts, [count, B / count, ...].

    Part k has the clips k, k + count, k + 2 count ...: of a batch that is split over
    devices each device has a share of every part, and nothing has to move.
    """
    return {name: _split(array, count) for name, array in batch.items()}


def _split(array: jax.Array, count: int) -> jax.Array:
    parts = array.reshape(array.shape[0] // count, count, *array.shape[1:])
    parts = parts.swapaxes(0, 1)
    names = [None, "batch"]
    if array.ndim >= 5:  # video, perhaps in views
        names += [None] * (array.ndim - 4) + ["height"]
    return constrain(parts, *names)
