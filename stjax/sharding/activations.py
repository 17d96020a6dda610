"""Hints where activations lie, and what an operation may know about the mesh.

They ask for the mesh of `jax.set_mesh`. Without one, on one device and within a
`jax.shard_map` nothing happens, so that models need not know where they run.
"""

import logging
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

_AXES = {
    "batch": ("data", "fsdp"),
    "height": ("space",),
    "tokens": ("space",),
    "heads": ("space",),
    "parameters": ("fsdp",),
    "everything": ("data", "fsdp", "space"),
}
"""What a dimension is -> the axes of the mesh that share it."""


def free_axes(name: str) -> tuple[str, ...]:
    """Axes of the mesh that share a dimension of this name.

    Those that the mesh has not, or that a `jax.shard_map` has taken, are left out.

    Args:
      name: ``"batch"``, ``"height"``, ``"tokens"``, ``"heads"``, ``"parameters"`` or
        ``"everything"``.
    """
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    free = [axis for axis, kind in types.items() if kind != AxisType.Manual]
    return tuple(axis for axis in _AXES[name] if axis in free)


def devices_along(name: str) -> int:
    """Over how many devices a dimension of this name is split; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return math.prod(mesh.shape[axis] for axis in free_axes(name))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """`x`, lying on the mesh as the names of its dimensions say.

    Args:
      x: any array.
      names: of the dimensions, see `free_axes`; None for one that is not split,
        ``"any"`` for one that XLA may split or not.
        A dimension that its devices do not divide is not split either, and those
        without a name at the end are not.
    """
    if devices_along("everything") == 1:
        return x
    spec = []
    for size, name in zip(x.shape, names, strict=False):
        if name == "any":
            spec.append(PartitionSpec.UNCONSTRAINED)
            continue
        axes = free_axes(name) if name else ()
        spec.append(axes if axes and size % devices_along(name) == 0 else None)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def constrain_rows(x: jax.Array, reach: int = 1) -> jax.Array:
    """Splits the rows of maps over ``space`` where that pays, or else the batch.

    A convolution needs rows of its neighbours. Where these and a device's own are the
    whole map, XLA gathers it on all devices, time and again. So there, and where the
    devices do not divide the rows, the maps are moved once: whole ones, the batch split
    over all devices if they divide it, else over ``data`` and ``fsdp`` alone (those
    along ``space`` then all do the same). It is logged once.

    Args:
      x: [B, ..., H, W, C].
      reach: rows above (or below) that a row of the result depends on, in one layer.
    """
    space = devices_along("height")
    if space == 1:
        return x
    rows = x.shape[-3]
    own = rows // space
    if rows % space == 0 and (reach < own or 2 * reach + own < rows):
        return constrain(x, "batch", *(None,) * (x.ndim - 4), "height")
    spread = x.shape[0] % devices_along("everything") == 0
    _log_once(rows, space, reach, spread)
    return constrain(x, "everything" if spread else "batch")


def clip_means(x: jax.Array) -> jax.Array:
    """Means over all positions: [B, ..., C] -> [B, C] float32, for a classifier.

    They lie where their clips do, and so do their gradients. These came by channels
    where `fsdp` splits the classifier's kernel, and then went all-to-all.
    """
    x = x.astype(jnp.float32).mean(tuple(range(1, x.ndim - 1)))
    return constrain(x, "batch")


def splits_rows(shape: Sequence[int]) -> bool:
    """Whether a mesh splits the rows of maps [B, ..., H, W, C]."""
    space = devices_along("height")
    return space > 1 and len(shape) > 3 and shape[-3] % space == 0


def fold(x: jax.Array) -> jax.Array:
    """Maps to tokens: [B, H, W, C] or [B, T, H, W, C] -> [B, N, C].

    Tokens are in the order of the dimensions, except where a mesh splits the rows: then
    rows come first, so that each device's tokens are those of its rows. What is done to
    tokens has to be indifferent to their order, as attention is.
    """
    tokens = (x.shape[0], -1, x.shape[-1])
    if not splits_rows(x.shape):
        return x.reshape(tokens)
    return constrain(jnp.moveaxis(x, -3, 1).reshape(tokens), "batch", "tokens")


def unfold(y: jax.Array, shape: Sequence[int]) -> jax.Array:
    """The inverse of `fold`: [B, N, D] -> ``[*shape[:-1], D]``."""
    if not splits_rows(shape):
        return y.reshape(*shape[:-1], y.shape[-1])
    b, *between, h, w, _ = shape
    y = jnp.moveaxis(y.reshape(b, h, *between, w, y.shape[-1]), 1, -3)
    return constrain_rows(y)


_logged = set()


def _log_once(rows: int, space: int, reach: int, spread: bool) -> None:
    if (rows, space, reach, spread) in _logged:
        return
    _logged.add((rows, space, reach, spread))
    where = "the batch is split over them" if spread else "each of them has them all"
    logging.getLogger("stjax").info(
        "maps of %d rows are not split over the %d devices of mesh.space (a layer"
        " reaches over %d rows): %s",
        rows,
        space,
        reach,
        where,
    )
