"""What a source of clips is: random access to clips, and a description of them."""

import dataclasses
from typing import Protocol

import numpy as np

from stjax.errors import unknown


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

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each array of a clip."""
        return {
            "input": (self.input_shape, self.dtype),
            "target": (self.target_shape, self.dtype),
        }

    def fits(self, trained: "Spec") -> bool:
        """Whether a model that was trained on clips like those can take these."""
        return self == trained

    def to_dict(self) -> dict:
        """A dictionary that JSON can hold."""
        return dataclasses.asdict(self)


AGGREGATES = ("softmax", "logits", "max")


@dataclasses.dataclass(frozen=True)
class LabelSpec:
    """What labelled clips look like; travels with checkpoints.

    A clip comes in ``views``: in training several augmentations of it, in evaluation
    several places in time and space. A model sees each as ``(raw - offset) / scale``,
    computed on the device inside jit.

    Attributes:
      t_in: frames of a view.
      height: rows of a frame.
      width: columns of a frame.
      classes: their names, in the order of the model's outputs.
      multi_label: a clip may have any number of classes, each with its own sigmoid.
      views: of a clip.
      aggregate: how the views of a clip become one score: ``"softmax"``, the mean of
        the probabilities (of sigmoids, if multi_label); ``"logits"``, their mean
        (UniFormer); ``"max"``, the largest probability (Charades).
      channels: a name for each input channel.
      dtype: of the raw frames.
      offset: subtracted from each channel; by default that of Kinetics' models.
      scale: each channel is divided by it.
    """

    t_in: int
    height: int
    width: int
    classes: tuple[str, ...]
    multi_label: bool = False
    views: int = 1
    aggregate: str = "softmax"
    channels: tuple[str, ...] = ("red", "green", "blue")
    dtype: str = "uint8"
    offset: tuple[float, ...] = (114.75,)
    scale: tuple[float, ...] = (57.375,)

    def __post_init__(self):
        if self.aggregate not in AGGREGATES:
            raise unknown("value of data.aggregate", self.aggregate, AGGREGATES)
        for name in ("offset", "scale"):
            values = tuple(float(v) for v in getattr(self, name))
            values = values * len(self.channels) if len(values) == 1 else values
            object.__setattr__(self, name, values)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(T_in, H, W, C), of one view."""
        return self.t_in, self.height, self.width, len(self.channels)

    @property
    def target_shape(self) -> tuple[int]:
        """(K,): 1 for the classes that are there, 0 for the others."""
        return (len(self.classes),)

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each array of a clip."""
        return {
            "input": ((self.views, *self.input_shape), self.dtype),
            "target": (self.target_shape, "float32"),
        }

    def fits(self, trained: "Spec") -> bool:
        """Whether a model that was trained on clips like those can take these."""
        fields = ("t_in", "classes", "multi_label", "channels", "offset", "scale")
        return isinstance(trained, LabelSpec) and all(
            getattr(self, name) == getattr(trained, name) for name in fields
        )

    def to_dict(self) -> dict:
        """A dictionary that JSON can hold."""
        return dataclasses.asdict(self)


Spec = ClipSpec | LabelSpec


def spec_from_dict(values: dict) -> Spec:
    """The inverse of ``to_dict`` (JSON turns tuples into lists)."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return LabelSpec(**fields) if "classes" in fields else ClipSpec(**fields)


class Source(Protocol):
    """One split (train, validation or test) of a data set: random access to clips.

    Sources pickle, because Grain's workers are separate processes, and `clip` may be
    called from several threads at once. A source may also have ``latitude`` [H]
    (degrees of the rows) and ``climatology`` [1, H, W, C_out] (the mean training
    frame, raw), for the metrics that need them; None or absent where there are none.
    """

    spec: Spec

    def __len__(self) -> int:
        """The number of clips; for an endless generator, of one epoch."""

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One clip.

        Args:
          index: in ``range(len(self))``.
          rng: the only source of randomness: a generated or augmented clip is a
            function of ``index`` and ``rng`` alone. A fixed clip ignores it.

        Returns:
          The arrays of ``spec.arrays``. Of a `ClipSpec`: ``input`` [T_in, H, W, C_in]
          and ``target`` [T_out, H, W, C_out], raw values of dtype ``spec.dtype``; NaN
          marks missing values in float data. Of a `LabelSpec`: ``input`` [views, T_in,
          H, W, C] and ``target`` [K] float32.
        """
