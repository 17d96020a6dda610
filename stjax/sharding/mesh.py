"""The only place that makes a mesh, and how a batch lies on it."""

from collections.abc import Sequence
from functools import lru_cache, partial

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from stjax.errors import UserError

AXES = ("data", "fsdp", "space")


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    space: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh of devices with the axes ``data``, ``fsdp`` and ``space``.

    The batch is split over ``data`` and ``fsdp``, the rows of the frames over
    ``space``, the parameters over ``fsdp``. Space is innermost, so that a host holds
    whole frames; data is outermost: of several TPU slices only it uses the network
    between them. All axes are of type Auto: sharding follows from annotations (the
    default of JAX, Explicit, breaks Linen's logical constraints).

    Args:
      data: devices along this axis; -1 for all that the other two leave.
      fsdp: devices along this axis.
      space: devices along this axis.
      devices: all there are by default; a single host may use the first few.

    Raises:
      UserError: the sizes do not fit the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if fsdp < 1 or space < 1 or (data < 1 and data != -1):
        raise UserError(
            f"mesh is data={data} fsdp={fsdp} space={space}; sizes are at least 1"
            " (data may be -1: all devices that are left)"
        )
    if data == -1:
        data = max(len(devices) // (fsdp * space), 1)
        needed = data * fsdp * space
        fits = needed == len(devices)
    else:
        needed = data * fsdp * space
        one_host = jax.process_count() == 1
        fits = needed <= len(devices) if one_host else needed == len(devices)
    if not fits:
        raise UserError(
            f"mesh data={data} fsdp={fsdp} space={space} takes {needed} devices, but"
            f" there are {len(devices)}; change config.mesh"
        )
    types = (AxisType.Auto,) * len(AXES)
    placed = _arranged((data, fsdp, space), devices[:needed])
    return Mesh(placed, AXES, axis_types=types)


def _arranged(shape: tuple[int, ...], devices: Sequence[jax.Device]) -> np.ndarray:
    """Devices [data, fsdp, space]: slice after slice, each as its links suggest."""
    data, *rest = shape
    # A topology of one slice does not number it.
    on_tpu = devices[0].platform == "tpu"
    indices = {getattr(device, "slice_index", 0) for device in devices}
    slices = len(indices) if on_tpu else 1
    if data % slices:
        raise UserError(
            f"mesh data={data} does not fit {slices} slices: only data goes across"
            f" slices; make config.mesh.data a multiple of {slices}"
        )
    if slices > 1:
        within, across = (data // slices, *rest), (slices, *(1 for _ in rest))
        arrange = partial(mesh_utils.create_hybrid_device_mesh, within, across)
    else:
        arrange = partial(mesh_utils.create_device_mesh, shape)
    found = arrange(devices, allow_split_physical_axes=True)
    return found if _whole_frames(found) else _host_by_host(shape, devices)


def _whole_frames(devices: np.ndarray) -> bool:
    """Whether neighbours along the last axis are on the same host."""
    hosts = np.vectorize(lambda device: device.process_index)(devices)
    return bool((hosts == hosts[..., :1]).all())


def _host_by_host(shape: tuple[int, ...], devices: Sequence[jax.Device]) -> np.ndarray:
    def place(device):
        return getattr(device, "slice_index", 0), device.process_index, device.id

    found = np.array(sorted(devices, key=place)).reshape(shape)
    if not _whole_frames(found):
        raise UserError(
            f"mesh space={shape[-1]} goes across hosts, but a host reads whole frames;"
            " make config.mesh.space a divisor of the devices of a host"
        )
    return found


def batch_sharding(mesh: Mesh, shape: Sequence[int]) -> NamedSharding:
    """Sharding of one array of a batch, by its global shape.

    Video [B, T, H, W, C], or in views [B, V, T, H, W, C], has B split over ``data`` and
    ``fsdp`` and H over ``space``; anything else [B, ...] has B split only.

    Raises:
      UserError: B or H is not divisible by the devices that share it.
    """
    return _batch_sharding(mesh, tuple(shape))


@lru_cache(maxsize=64)  # the training loop asks at every step
def _batch_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    rows = mesh.shape["data"] * mesh.shape["fsdp"]
    if shape[0] % rows:
        raise UserError(
            f"a batch of {shape[0]} cannot be split over {rows} devices; change"
            " config.data.batch or config.mesh.data"
        )
    spec = (("data", "fsdp"),)
    if len(shape) in (5, 6) and mesh.shape["space"] > 1:
        if shape[-3] % mesh.shape["space"]:
            raise UserError(
                f"frames with {shape[-3]} rows cannot be split over"
                f" {mesh.shape['space']} devices; change config.mesh.space"
            )
        spec = (*spec, *(None,) * (len(shape) - 4), "space")
    return NamedSharding(mesh, PartitionSpec(*spec))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Places this host's slice of a batch on its devices.

    Args:
      mesh: from `make_mesh`.
      batch: arrays [B / hosts, ...]; the result's arrays are the global [B, ...]. What
        is a global array already, made on the devices, stays as it is.
    """
    hosts = jax.process_count()
    if hosts == 1:  # all arrays in one call, which leaves alone what is in its place
        arrays = {k: a if _on_devices(a) else np.asarray(a) for k, a in batch.items()}
        wanted = {k: batch_sharding(mesh, a.shape) for k, a in arrays.items()}
        return jax.device_put(arrays, wanted)

    def put(local: np.ndarray) -> jax.Array:
        if _on_devices(local) and not local.is_fully_addressable:
            return local
        local = np.asarray(local)
        shape = (local.shape[0] * hosts, *local.shape[1:])
        sharding = batch_sharding(mesh, shape)
        return jax.make_array_from_process_local_data(sharding, local, shape)

    return {name: put(array) for name, array in batch.items()}


def _on_devices(array: np.ndarray | jax.Array) -> bool:
    return isinstance(array, jax.Array)
