"""From the frames of a labelled video to its views."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from stjax.data.base import LabelSpec
from stjax.data.footage import Footage
from stjax.data.lists.item import Item
from stjax.data.sampling import Sampling
from stjax.data.spatial import TrainTransform, create_transform, test_crops
from stjax.errors import UserError

_MEAN, _STD = 0.45, 0.225


@dataclasses.dataclass(frozen=True)
class Views:
    """Which views are taken of a video: where in time, and which part of the frames.

    Attributes:
      sampling: of the frames.
      size: side of a view.
      transform: of a training clip; None in evaluation.
      repeats: views of a training clip.
      clips: places in time in evaluation.
      crops: places in space in evaluation, 1 or 3.
      short_side: of the frames that evaluation crops are cut from.
      reverse: blue first.
    """

    sampling: Sampling
    size: int
    transform: TrainTransform | None = None
    repeats: int = 1
    clips: int = 1
    crops: int = 1
    short_side: int | None = None
    reverse: bool = False

    def __post_init__(self):
        for name in ("repeats", "clips"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"data.{name}={getattr(self, name)}: expected at least 1"
                )
        if self.clips > 1 and self.sampling.name == "slowfast_uniform":
            raise UserError(
                f"data.clips={self.clips}: data.sampling='slowfast_uniform' has one"
                " place in time only; set data.clips=1, or data.sampling='uniform'"
            )
        # Settings that cannot be met are said now, not at the first clip.
        side = max(self.size, self.short_side or 0)
        test_crops(
            np.zeros((1, side, side, 3), np.uint8),
            self.size,
            self.crops,
            self.short_side,
        )

    @property
    def count(self) -> int:
        """Views of a video."""
        return self.clips * self.crops if self.transform is None else self.repeats

    def take(
        self, footage: Footage, rng: np.random.Generator
    ) -> tuple[np.ndarray, range]:
        """The views, and what they span.

        Returns:
          [views, T, size, size, 3] uint8, evaluation views clip by clip; and the range
          of the frames from the first to the last of them.
        """
        if self.transform is None:
            views, used = self._evaluation(footage)
        else:
            used = self.sampling.train(footage.length, footage.rate, rng)
            found = dict(footage.frames(used.tolist()))
            frames = np.stack([found[k] for k in used.tolist()])
            views = np.stack([self.transform(frames, rng) for _ in range(self.repeats)])
        views = views[..., ::-1] if self.reverse else views
        span = range(int(used.min()), int(used.max()) + 1)
        return np.ascontiguousarray(views), span

    def _evaluation(self, footage: Footage) -> tuple[np.ndarray, np.ndarray]:
        used = self.sampling.test(footage.length, footage.rate, self.clips)
        # Frame by frame: clips overlap, and whole frames of all of them take gigabytes.
        found = {
            k: test_crops(frame[None], self.size, self.crops, self.short_side)[:, 0]
            for k, frame in footage.frames(np.unique(used).tolist())
        }
        # [clips, T, crops, size, size, 3], then clip by clip
        views = np.stack([np.stack([found[k] for k in row]) for row in used.tolist()])
        views = views.swapaxes(1, 2)
        return views.reshape(-1, *views.shape[2:]), used


def make_views(
    train: bool,
    sampling: Sampling,
    *,
    size: int,
    test_size: int | None,
    test_short_side: int | None,
    augment: Mapping | None,
    repeats: int,
    clips: int,
    crops: int,
    reverse: bool,
) -> Views:
    """The views of a split, from the fields of a source.

    Raises:
      UserError: for fields that do not fit together, or are not known.
    """
    transform = create_transform(size, **dict(augment or {}))
    return Views(
        sampling,
        size if train or test_size is None else test_size,
        transform if train else None,
        repeats,
        clips,
        crops,
        test_short_side,
        reverse,
    )


def label_spec(
    views: Views,
    classes: Sequence[str],
    *,
    multi_label: bool,
    aggregate: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> LabelSpec:
    """What clips of such views look like.

    Raises:
      UserError: for a mean or deviation that is not one of frames in [0, 1].
    """
    scaled = []
    for name, given, default in (("mean", mean, _MEAN), ("std", std, _STD)):
        values = tuple(given) if given is not None else (default,)
        if len(values) not in (1, 3) or not all(0 <= v <= 1 for v in values):
            raise UserError(
                f"data.{name}={values}: expected 1 or 3 numbers, for frames in [0, 1]"
            )
        scaled.append(tuple(255 * v for v in values))
    channels = ("red", "green", "blue")
    return LabelSpec(
        views.sampling.frames,
        views.size,
        views.size,
        tuple(classes),
        multi_label,
        views.count,
        aggregate,
        channels[::-1] if views.reverse else channels,
        offset=scaled[0],
        scale=scaled[1],
    )


def target(
    item: Item, classes: int, span: range | None, rate: float | None
) -> np.ndarray:
    """[classes] float32, 1 for the classes that are there.

    Args:
      item: the video, its labels numbers.
      classes: how many there are.
      span: the frames that count; None: all. Matters only where the list tells when a
        class is there.
      rate: frames a second.
    """
    labels = set(item.labels)
    if item.spans and span is not None and (rate or not item.seconds):
        unit = rate if item.seconds else 1
        labels = {
            label
            for begin, end, label in item.spans
            if begin * unit <= span[-1] and end * unit > span[0]
        }
    out = np.zeros(classes, np.float32)
    out[list(labels)] = 1
    return out
