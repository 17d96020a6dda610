"""Hints where activations lie, and what an operation may know about the mesh.

They ask for the mesh of `jax.set_mesh`. Without one, on one device and within a
`jax.shard_map` nothing happens, so that models need not know where they run.
"""

import logging
import math

import jax
from jax.sharding import AxisType, PartitionSpec

_AXES = {
    "batch": ("data", "fsdp"),
    "height": ("space",),
    "tokens": ("space",),
    "heads": ("space",),
    "everything": ("data", "fsdp", "space"),
}
"""What a dimension is -> the axes of the mesh that share it."""


def _free(axes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the axes that the mesh has and no `jax.shard_map` has taken."""
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    return tuple(a for a in axes if types.get(a, AxisType.Manual) != AxisType.Manual)


def devices_along(name: str) -> int:
    """Over how many devices a dimension of this name is split; 1 without a mesh.

    Args:
      name: ``"batch"``, ``"height"``, ``"tokens"``, ``"heads"`` or ``"everything"``.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return math.prod(mesh.shape[axis] for axis in _free(_AXES[name]))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """`x`, lying on the mesh as the names of its dimensions say.

    Args:
      x: any array.
      names: of the dimensions, see `devices_along`; None for one that is not split.
        A dimension that its devices do not divide is not split either, and those
        without a name at the end are not.
    """
    if devices_along("everything") == 1:
        return x
    spec = []
    for size, name in zip(x.shape, names, strict=False):
        axes = _free(_AXES[name]) if name else ()
        spec.append(axes if axes and size % devices_along(name) == 0 else None)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def constrain_rows(x: jax.Array, reach: int = 1, axis: int = -3) -> jax.Array:
    """Splits the rows of maps over ``space`` where that pays, or else the batch.

    A convolution needs rows of its neighbours: XLA sends them over at most two devices
    and gathers whole maps beyond. So where `reach` is more than the rows of two
    devices, or the devices do not divide the rows, the maps are moved: whole ones,
    the batch split over all devices if they divide it, else over ``data`` and ``fsdp``
    alone (the devices along ``space`` then all do the same). It is logged once.

    Args:
      x: [B, ..., H, W, C].
      reach: rows above (or below) that a row of the result depends on, in one layer.
      axis: of the rows.
    """
    space = devices_along("height")
    if space == 1:
        return x
    axis %= x.ndim
    rows = x.shape[axis]
    if rows % space == 0 and reach <= 2 * (rows // space):
        between = (None,) * (axis - 1)
        return constrain(x, "batch", *between, "height")
    spread = x.shape[0] % devices_along("everything") == 0
    _log_once(rows, space, reach, spread)
    return constrain(x, "everything" if spread else "batch")


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
