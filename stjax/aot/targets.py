"""Accelerators to compile for: facts of the chips, and topologies without hardware."""

import contextlib
import dataclasses
import importlib.util
import logging
import math
import os
import shutil

import jax
from jax.experimental import topologies

from stjax.aot.bundles import dump_folder
from stjax.aot.gpu import CONFIGS
from stjax.errors import UserError, unknown

_GIB = 2**30
_TPU = "https://docs.cloud.google.com/tpu/docs/"


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device as XLA sees it: a TPU chip, half a TPU7x chip, a GPU.

    Attributes:
      name: in topologies, such as ``"v5e"``.
      hbm: bytes that a program may use (TPU: what the compiler calls available).
      peak: FLOP/s of matrix products in bfloat16, dense.
      peak_float32: the same for float32 at JAX's default precision: one bfloat16 pass
        on a TPU, TF32 on a GPU.
      bandwidth: of the memory, bytes/s.
      link: bytes/s to and from other chips, both directions together.
      clock: Hz of the TPU's cores: peak / (2 * MXUs * their side squared).
      rank: axes of a topology.
      devices: of a chip.
      source: where the figures are from.
    """

    name: str
    hbm: int
    peak: float
    peak_float32: float
    bandwidth: float
    link: float
    clock: float | None
    rank: int
    source: str
    devices: int = 1

    @property
    def is_tpu(self) -> bool:
        """Or a GPU."""
        return self.clock is not None


def _tpu(name, hbm_gib, peak, bandwidth, link, clock, rank, devices=1):
    hbm, page = int(hbm_gib * _GIB), _TPU + name
    return Chip(name, hbm, peak, peak, bandwidth, link, clock, rank, page, devices)


_CHIPS = (
    _tpu("v4", 30.75, 275e12, 1.2e12, 600e9, 1.05e9, 3),
    _tpu("v5e", 15.75, 197e12, 819e9, 400e9, 1.5e9, 2),
    _tpu("v5p", 95.74, 459e12, 2.765e12, 1.2e12, 1.75e9, 3),
    _tpu("v6e", 31.25, 918e12, 1.64e12, 800e9, 1.75e9, 2),
    # A chip is two devices; these are the figures of one, half of the chip's.
    _tpu("tpu7x", 94.75, 1153.5e12, 3.69e12, 600e9, 2.2e9, 3, devices=2),
    Chip(
        "a100",
        CONFIGS["a100"].memory,
        312e12,
        156e12,
        2.039e12,
        600e9,
        None,
        2,
        "https://www.nvidia.com/en-us/data-center/a100/ (SXM, 80 GB)",
    ),
    Chip(
        "h100",
        CONFIGS["h100"].memory,
        989.4e12,
        494.7e12,
        3.352e12,
        900e9,
        None,
        2,
        "https://www.nvidia.com/en-us/data-center/h100/ (SXM)",
    ),
)
CHIPS = {chip.name: chip for chip in _CHIPS}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips and how they are linked.

    Attributes:
      chip: its kind.
      shape: of the torus (TPU), or (hosts, GPUs a host).
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Such as "v5e:4x4" or "h100:1x8"."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def size(self) -> int:
        """Devices."""
        return math.prod(self.shape) * self.chip.devices


def parse_topology(text: str) -> Topology:
    """A topology from its name.

    Args:
      text: ``v4: v5e: v5p: v6e: tpu7x:`` and the shape of the torus, such as
        ``v5e:4x4`` or ``v5p:2x2x1``; ``h100: a100:`` and hosts x GPUs a host, such as
        ``h100:1x8``.

    Raises:
      UserError: an unknown chip, or no shape.
    """
    name, _, sides = text.partition(":")
    if name not in CHIPS:
        raise unknown("chip of --topology", name, CHIPS)
    chip = CHIPS[name]
    parts = sides.split("x")
    if not all(p.isdigit() and int(p) for p in parts) or len(parts) > chip.rank:
        example = "2x2x1" if chip.rank == 3 else "2x4" if chip.is_tpu else "1x8"
        what = "the torus of chips" if chip.is_tpu else "hosts x GPUs a host"
        raise UserError(
            f"topology {text!r} has no shape {name} comes in; expected {what}, such as"
            f" {name}:{example}"
        )
    shape = tuple(map(int, parts))
    return Topology(chip, shape + (1,) * (chip.rank - len(shape)))


def devices(topology: Topology) -> list[jax.Device]:
    """Devices to compile for; they run nothing.

    Raises:
      UserError: the compiler is not installed, or there is no such topology.
    """
    load = _tpu_devices if topology.chip.is_tpu else _gpu_devices
    try:
        return list(load(topology))
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"topology {topology.name}: {reason}") from error


def _tpu_devices(topology: Topology) -> list[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "compiling for a TPU needs its compiler, libtpu; pip install"
            f' "jax[tpu]=={jax.__version__}"'
        )
    # There is no TPU here, nor a metadata server: the library need not look for them.
    for name, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_MIN_LOG_LEVEL": "3",
        "TPU_STDERR_LOG_LEVEL": "3",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }.items():
        os.environ.setdefault(name, value)
    dump_folder()
    options = {}
    if topology.size == topology.chip.devices:  # a host of one chip
        options["chips_per_host_bounds"] = (1, 1, 1)
    if topology.chip.name == "v4":  # its two cores are one device
        options["chip_config_name"] = "megacore"
    with _quiet():
        return topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name, **options
        ).devices


def _gpu_devices(topology: Topology) -> list[jax.Device]:
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if not any(map(importlib.util.find_spec, plugins)):
        version = jax.__version__
        raise UserError(
            "compiling for a GPU needs its compiler; pip install"
            f" jax-cuda12-plugin=={version} jax-cuda12-pjrt=={version}"
        )
    if shutil.which("ptxas") is None:
        raise UserError(
            "compiling for a GPU needs ptxas on the PATH; pip install"
            " nvidia-cuda-nvcc-cu12 and add its folder bin"
        )
    with _quiet():
        return topologies.get_topology_desc(
            platform="cuda",
            topology_name=topology.chip.name,
            topology="x".join(map(str, (1, *topology.shape))),
            target_config=CONFIGS[topology.chip.name].text,
        ).devices


@contextlib.contextmanager
def _quiet():
    """Plugins complain that their devices are not there; that is the point."""
    log = logging.getLogger("jax._src.xla_bridge")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
