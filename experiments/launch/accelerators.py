"""Names of TPU slices, and the runtime version that their machines boot.

Runtime versions: cloud.google.com/tpu/docs/runtimes, the column for JAX. Sizes: the
pages of each generation below cloud.google.com/tpu/docs. A name counts TensorCores
(two a chip) for v4, v5p and tpu7x, chips for v5e and v6e. TPU7x is offered on GKE only
(cloud.google.com/tpu/docs/queued-resources).
"""

import dataclasses

from stjax.errors import UserError, unknown

_FLAT = (1, 4, 8, 16, 32, 64, 128, 256)


@dataclasses.dataclass(frozen=True)
class Generation:
    """Slices of a TPU generation.

    Attributes:
      runtime: version for TPU VMs; None where there are none.
      sizes: the usual ones.
      step: a cubic topology may have any multiple of it; None for the usual ones only.
    """

    runtime: str | None
    sizes: tuple[int, ...]
    step: int | None = None

    def has(self, size: int) -> bool:
        """Whether there is a slice of this size."""
        inside = self.step and size <= self.sizes[-1] and size % self.step == 0
        return size in self.sizes or bool(inside and size > 0)


def _powers(first: int, last: int) -> tuple[int, ...]:
    sizes = [first]
    while sizes[-1] * 2 <= last:
        sizes.append(sizes[-1] * 2)
    return tuple(sizes)


GENERATIONS = {
    "v4": Generation("tpu-ubuntu2204-base", _powers(8, 4096), 128),
    "v5litepod": Generation("v2-alpha-tpuv5-lite", _FLAT),
    "v5p": Generation("v2-alpha-tpuv5", (*_powers(8, 8192), 12288), 128),
    "v6e": Generation("v2-alpha-tpuv6e", _FLAT),
    "tpu7x": Generation(None, _powers(8, 8192), 128),
}


def generation(accelerator: str) -> Generation:
    """The generation of a slice such as v5litepod-16.

    Raises:
      UserError: there is no such slice.
    """
    name, _, size = accelerator.rpartition("-")
    found = GENERATIONS.get(name)
    if found is None or not size.isdigit() or not found.has(int(size)):
        usual = [f"{n}-{size}" for n, g in GENERATIONS.items() for size in g.sizes]
        raise unknown("accelerator", accelerator, usual)
    return found


def runtime_version(accelerator: str) -> str:
    """What TPU VMs of a slice boot.

    Raises:
      UserError: there is no such slice, or none outside of GKE.
    """
    version = generation(accelerator).runtime
    if version is None:
        raise UserError(
            f"{accelerator} is only offered on GKE: set `cluster` in the job, so that"
            " xpk runs it"
        )
    return version
