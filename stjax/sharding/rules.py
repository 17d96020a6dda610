"""Where the arrays of a training state lie: the one place with rules for parameters."""

import math
from collections.abc import Sequence

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SMALLEST = 2**16
"""Elements below which an array is on every device: gathering it would cost more."""


def parameter_spec(
    shape: Sequence[int], mesh: Mesh, smallest: int = SMALLEST
) -> PartitionSpec:
    """How a parameter, its gradient or its moments are split: the FSDP rule.

    The largest dimension that the ``fsdp`` devices divide is split over them (of equal
    ones the last). Small arrays and depthwise kernels ``[*window, 1, C]`` stay whole:
    splitting the channels of a depthwise kernel would send the activations around.

    Args:
      shape: of the array.
      mesh: from `stjax.sharding.mesh.make_mesh`.
      smallest: elements below which an array stays whole.
    """
    devices = mesh.shape["fsdp"]
    depthwise = len(shape) >= 3 and shape[-2] == 1
    if devices == 1 or depthwise or math.prod(shape) < smallest:
        return PartitionSpec()
    sizes = [(n, axis) for axis, n in enumerate(shape) if n % devices == 0]
    if not sizes:
        return PartitionSpec()
    _, split = max(sizes)
    return PartitionSpec(
        *("fsdp" if axis == split else None for axis in range(len(shape)))
    )


def parameter_shardings(abstract, mesh: Mesh, smallest: int = SMALLEST):
    """The sharding of every array of a tree of parameters, moments or a whole state.

    Args:
      abstract: arrays or ``jax.ShapeDtypeStruct``.
      mesh: from `stjax.sharding.mesh.make_mesh`.
      smallest: elements below which an array stays whole.
    """
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, parameter_spec(leaf.shape, mesh, smallest)),
        abstract,
    )
