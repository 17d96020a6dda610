"""What a compiled program says about time and memory of one device."""

import dataclasses

from stjax.aot.targets import Chip

# Bytes over a device's links, in and out, for a byte of payload on many devices: an
# all-reduce in a ring scatters the sums and gathers them again.
_TRAFFIC = {"all-reduce": 4}
_OTHER_TRAFFIC = 2


@dataclasses.dataclass(frozen=True)
class Report:
    """Facts and estimates of one program on one topology, of one device.

    Nothing here was measured on a device. ``flops`` are counted in the program as
    written (stjax.macs), memory and collectives read from what the compiler made.

    Attributes:
      config: name of the config.
      topology: such as ``"v5e:4x4"``.
      kind: ``"train"`` or ``"predict"``.
      dtype: of the computation.
      devices: of the mesh, which may leave some of the topology out.
      clips: of a batch, over all devices.
      epoch: clips of an epoch, or None.
      parameters: how many the model has.
      resident: bytes of parameters, optimizer state and batch.
      hbm: bytes that a program may use.
      flops: of a step: two for every multiply-add of a matrix product or convolution.
      temporary: bytes of activations and other intermediate results; None: the program
        does not fit.
      peak: bytes of everything; where the program does not fit, what the compiler asked
        for.
      moved: bytes to and from the main memory, see `stjax.aot.hlo.moved`.
      accessed: bytes by the TPU compiler's own count (``cost_analysis``), with those of
        the vector memory, and loop bodies once.
      compiler_flops: by the TPU compiler's count, of the implementations it was given;
        loop bodies once.
      collectives: kind -> (how many, bytes), see `stjax.aot.hlo.collectives`.
      cycles: the TPU compiler's estimate, and `kernel_cycles`; no collectives.
      layers: cycles by layer, the dearest first.
      unknown_loops: loops whose bodies were counted once.
      kernels: calls of hand-written kernels.
      kernel_cycles: theirs, which the compiler does not estimate: their instructions as
        often as they run, or what moving their arrays takes if that is longer; see
        `stjax.aot.bundles`.
      uncounted: calls of kernels whose instructions could not be counted; they count
        nothing.
      compile_seconds: on this machine.
      problem: what the compiler said where the program does not fit.
    """

    config: str
    topology: str
    kind: str
    dtype: str
    devices: int
    clips: int
    epoch: int | None
    parameters: int
    resident: dict[str, int]
    hbm: int
    flops: float
    temporary: int | None = None
    peak: int | None = None
    moved: float | None = None
    accessed: float | None = None
    compiler_flops: float | None = None
    collectives: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    cycles: int | None = None
    layers: dict[str, int] = dataclasses.field(default_factory=dict)
    unknown_loops: int = 0
    kernels: int = 0
    kernel_cycles: int = 0
    uncounted: int = 0
    compile_seconds: float = 0.0
    problem: str = ""

    @property
    def fits(self) -> bool:
        """Whether one device can hold it."""
        return not self.problem and self.peak is not None and self.peak <= self.hbm

    def seconds(self, chip: Chip) -> dict[str, float]:
        """What a step would take if nothing else did: arithmetic, memory, links.

        Links: every collective in a ring over all devices.
        """
        peak = chip.peak if self.dtype == "bfloat16" else chip.peak_float32
        found = {"arithmetic": self.flops / peak}
        if self.moved is not None:
            found["memory"] = self.moved / chip.bandwidth
        if self.devices > 1:
            share = (self.devices - 1) / self.devices
            sent = sum(
                size * _TRAFFIC.get(kind, _OTHER_TRAFFIC)
                for kind, (_, size) in self.collectives.items()
            )
            found["links"] = share * sent / chip.link
        return found

    def roofline(self, chip: Chip) -> tuple[float, str]:
        """The largest of `seconds`, and what it comes from."""
        bounds = self.seconds(chip)
        bound = max(bounds, key=bounds.get)
        return bounds[bound], bound

    def step_seconds(self, chip: Chip) -> float:
        """Estimate of a step: cycles and links one after the other, or the roofline."""
        if not self.cycles:
            return self.roofline(chip)[0]
        return self.cycles / chip.clock + self.seconds(chip).get("links", 0.0)

    def to_dict(self) -> dict:
        """A dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Report":
        """The inverse; fields of other versions are left out."""
        known = {field.name for field in dataclasses.fields(cls)}
        fields = {k: v for k, v in values.items() if k in known}
        pairs = {k: tuple(v) for k, v in fields.get("collectives", {}).items()}
        return cls(**fields | {"collectives": pairs})
