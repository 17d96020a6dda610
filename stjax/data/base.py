"""What a source of clips is: random access to clips, and a description of them."""

import dataclasses
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """What the clips of a source look like; travels with checkpoints.

    A model sees ``(raw - offset) / scale``, computed on the device inside jit, in
    float32: [0, 1] for uint8 frames (offset 0, scale 255).

    Attributes:
      t_in: input frames.
      t_out: target frames.
      height: rows of a frame.
      width: columns of a frame.
      channels: a name for each input channel.
      target_channels: which of the input channels are predicted; None for all.
      dtype: of the raw arrays, ``"uint8"`` or ``"float32"``.
      offset: subtracted from each input channel.
      scale: each input channel is divided by it.
      units: of the raw values, such as ``"K"``; empty for pixels.
      metric_space: ``"model"``: metrics compare values as the model sees them;
        ``"raw"``: in raw units (weather).
    """

    t_in: int
    t_out: int
    height: int
    width: int
    channels: tuple[str, ...] = ("grey",)
    target_channels: tuple[int, ...] | None = None
    dtype: str = "uint8"
    offset: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (255.0,)
    units: str = ""
    metric_space: str = "model"

    def __post_init__(self):
        n = len(self.channels)
        # One value may stand for all channels.
        for name in ("offset", "scale"):
            values = tuple(float(v) for v in getattr(self, name))
            values = values * n if len(values) == 1 else values
            if len(values) != n:
                raise ValueError(f"{name} has {len(values)} values for {n} channels")
            object.__setattr__(self, name, values)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(T_in, H, W, C_in)."""
        return self.t_in, self.height, self.width, len(self.channels)

    @property
    def target_shape(self) -> tuple[int, int, int, int]:
        """(T_out, H, W, C_out)."""
        return self.t_out, self.height, self.width, len(self.target_index)

    @property
    def target_index(self) -> tuple[int, ...]:
        """Indices of the predicted channels among the input channels."""
        if self.target_channels is None:
            return tuple(range(len(self.channels)))
        return self.target_channels

    @property
    def target_offset(self) -> tuple[float, ...]:
        """`offset` of the predicted channels."""
        return tuple(self.offset[i] for i in self.target_index)

    @property
    def target_scale(self) -> tuple[float, ...]:
        """`scale` of the predicted channels."""
        return tuple(self.scale[i] for i in self.target_index)

    def to_dict(self) -> dict:
        """A dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "ClipSpec":
        """The inverse of `to_dict` (JSON turns tuples into lists)."""
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


class Source(Protocol):
    """One split (train, validation or test) of a data set: random access to clips.

    Sources pickle, because Grain's workers are separate processes, and `clip` may be
    called from several threads at once. A source may also have ``latitude`` [H]
    (degrees of the rows) and ``climatology`` [1, H, W, C_out] (the mean training
    frame, raw), for the metrics that need them; None or absent where there are none.
    """

    spec: ClipSpec

    def __len__(self) -> int:
        """The number of clips; for an endless generator, of one epoch."""

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One clip.

        Args:
          index: in ``range(len(self))``.
          rng: the only source of randomness: a generated or augmented clip is a
            function of ``index`` and ``rng`` alone. A fixed clip ignores it.

        Returns:
          ``input`` [T_in, H, W, C_in] and ``target`` [T_out, H, W, C_out], raw
          values of dtype ``spec.dtype``; NaN marks missing values in float data.
        """
