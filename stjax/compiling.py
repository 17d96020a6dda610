"""What XLA is told when a program is compiled for the CPU of this machine.

- Convolutions by Eigen and not by YNNPACK, whose threads share output channels only: of
  64 it takes one core. Products and sums stay with YNNPACK.
- Vectors of 512 bits where they cost no clock speed; XLA's own choice is 256.

In wall time on 2 cores of an AMD EPYC (Zen 5), forward passes: TAU 0.90 of what XLA
takes by itself, TaxiBJ 0.94, UniFormer-S 0.94, NL-I3D 0.86. Options go with a program,
not with the process, so that nothing changes for other devices.
"""

import functools
import platform
from pathlib import Path

import jax

_KIND = "LIBRARY_FUSION_TYPE_"
_LIBRARY = {
    "xla_cpu_experimental_ynn_fusion_type": f"{_KIND}INDIVIDUAL_DOT,{_KIND}REDUCE"
}
_WIDE = {"xla_cpu_prefer_vector_width": 512}


def compiler_options(of: jax.sharding.Mesh | None = None) -> dict[str, object] | None:
    """``compiler_options`` of `jax.jit` for what this library runs.

    Args:
      of: the devices that the program is compiled for; None for JAX's default ones.

    Returns:
      None unless they are CPUs.
    """
    kind = jax.default_backend() if of is None else of.devices.flat[0].platform
    return (_options() or None) if kind == "cpu" else None


@functools.cache
def _options() -> dict[str, object]:
    """Those that this machine profits from and this version of XLA knows."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return {}
    found = {}
    for option in (_LIBRARY, _WIDE if _has_quick_avx512() else {}):
        if option and _known(option):
            found |= option
    return found


def _has_quick_avx512() -> bool:
    """Processors that came after those whose clock AVX-512 slows down."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _known(option: dict[str, object]) -> bool:
    """Whether XLA takes it: it refuses what it does not know."""
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda: 0).lower().compile(compiler_options=option)
    except jax.errors.JaxRuntimeError:
        return False
    return True
