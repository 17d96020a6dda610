"""What clips of a config look like, without their files."""

import dataclasses

import ml_collections
import numpy as np

from stjax.data.base import ClipSpec, LabelSpec, Spec
from stjax.data.published import FRAMES, TRAIN_CLIPS
from stjax.errors import UserError
from stjax.training.inputs import open_split


@dataclasses.dataclass(frozen=True)
class Described:
    """A source of which only the description is there.

    Attributes:
      spec: of its clips.
      clips: how many it has.
    """

    spec: Spec
    clips: int

    def __len__(self) -> int:
        return self.clips

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Not there."""
        raise NotImplementedError("no clips, only their description")


def spec_of(config: ml_collections.ConfigDict, train: bool = True) -> Spec:
    """The spec of a config's clips, from the config alone where its data set is known.

    Frames of the known data sets have their published size; of labelled videos all
    follows from ``data.size``, ``data.test_size`` and ``model.num_classes``. Other
    sources are opened.

    Args:
      config: of a training.
      train: of its training clips, or of those that are evaluated.

    Raises:
      UserError: the source is neither known nor there.
    """
    data = config.data
    if data.source == "labelled_videos":
        return _labelled(config, train)
    if data.source == "weatherbench":
        channels = len(data.variables) * len(data.get("levels") or (0,))
        # The config says by its name alone which of the two grids it is for.
        height, width = (128, 256) if "1_40625" in config.name else (32, 64)
        shape, raw = (height, width, channels), {"dtype": "float32", "scale": (1.0,)}
    elif data.source in FRAMES:
        shape, raw = FRAMES[data.source], {}
    else:
        try:
            return open_split(config, "train" if train else "test").spec
        except (UserError, ImportError) as error:
            raise UserError(
                f"what clips of data source {data.source!r} look like follows from its"
                f" files, and these cannot be opened: {error}"
            ) from error
    names = tuple(map(str, range(shape[-1])))
    size = (data["size"], data["size"]) if data.get("size") else shape[:2]
    return ClipSpec(data.t_in, data.t_out, *size, channels=names, **raw)


def clips_of_an_epoch(config: ml_collections.ConfigDict) -> int | None:
    """Training clips as published, or as the source says; None if nobody knows."""
    data = config.data
    if data.source in FRAMES or data.source == "weatherbench":
        return TRAIN_CLIPS.get(data.source)
    if data.source == "labelled_videos":
        classes = config.model.get("num_classes") or data.get("num_classes")
        return TRAIN_CLIPS.get((data.format, classes))
    try:
        return len(open_split(config, "train"))
    except (UserError, ImportError):
        return None


def _labelled(config: ml_collections.ConfigDict, train: bool) -> LabelSpec:
    data = config.data
    classes = config.model.get("num_classes") or data.get("num_classes")
    if not classes:
        raise UserError(
            "how many classes there are follows from the data; set model.num_classes"
        )
    side = data.get("size") or 224
    views = data.get("repeats") or 1
    if not train:
        side = data.get("test_size") or side
        views = (data.get("clips") or 1) * (data.get("crops") or 1)
    names = tuple(map(str, range(classes)))
    # Charades' lists give a clip any number of classes.
    multi_label = bool(data.get("multi_label")) or data.get("format") == "charades"
    return LabelSpec(data.t_in, side, side, names, multi_label, views)
