"""What a long video shows, and when: a recogniser slides over the whole file.

The file is decoded once, from its beginning, and only the frames of the windows at
hand are kept, so that an hour of video needs no more memory than a minute.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stjax.data.footage import Footage, open_footage
from stjax.data.lists.item import Item
from stjax.data.sampling import spread
from stjax.data.spatial import test_crops
from stjax.errors import UserError
from stjax.evaluation.recognition import aggregate

_PICTURES, _PICTURE_HEIGHT = 24, 72  # of the timeline, beside the probabilities


@dataclasses.dataclass(frozen=True)
class Timeline:
    """What a video shows, window by window.

    Attributes:
      classes: [K] names.
      times: [N, 2] where each window begins and ends.
      probabilities: [N, K] float32.
      unit: of the times: ``"s"``, or ``"frames"`` where nothing tells the rate.
      source: the file.
      pictures: (time, [h, w, 3] uint8), some frames of the video.
    """

    classes: tuple[str, ...]
    times: np.ndarray
    probabilities: np.ndarray
    unit: str
    source: str
    pictures: tuple[tuple[float, np.ndarray], ...] = ()

    @property
    def best(self) -> np.ndarray:
        """[N] the most probable class of each window."""
        return self.probabilities.argmax(-1)

    @property
    def borders(self) -> np.ndarray:
        """[N + 1] where a window's part of the video ends and the next one's begins.

        In the middle of what two windows share.
        """
        inner = (self.times[1:, 0] + self.times[:-1, 1]) / 2
        return np.concatenate([self.times[:1, 0], inner, self.times[-1:, 1]])

    def segments(self) -> list[tuple[float, float, str, float]]:
        """Stretches with one most probable class: (begin, end, class, probability).

        The probability is the mean over the windows of a stretch.
        """
        cuts = 1 + np.flatnonzero(np.diff(self.best))
        found = []
        for part in np.split(np.arange(len(self.times)), cuts):
            begin, end = self.borders[part[0]], self.borders[part[-1] + 1]
            k = self.best[part[0]]
            share = self.probabilities[part, k].mean()
            found.append((float(begin), float(end), self.classes[k], float(share)))
        return found

    def to_csv(self) -> str:
        """A line a window: begin, end, best class, its probability, then all K."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        names = (f"begin_{self.unit}", f"end_{self.unit}", "class", "probability")
        writer.writerow([*names, *self.classes])
        for (begin, end), row, k in zip(
            self.times.tolist(), self.probabilities, self.best, strict=True
        ):
            numbers = [f"{p:.6f}" for p in row]
            head = [f"{begin:.3f}", f"{end:.3f}", self.classes[k], numbers[k]]
            writer.writerow([*head, *numbers])
        return file.getvalue()

    def to_dict(self) -> dict:
        """For JSON: ``source unit classes windows segments``."""
        keys = ("begin", "end", "class", "probability")
        segments = [dict(zip(keys, s, strict=True)) for s in self.segments()]
        windows = [
            {"begin": begin, "end": end, "probabilities": row}
            for (begin, end), row in zip(
                self.times.tolist(), self.probabilities.tolist(), strict=True
            )
        ]
        return {
            "source": self.source,
            "unit": self.unit,
            "classes": list(self.classes),
            "segments": segments,
            "windows": windows,
        }


def slide(
    recogniser,
    path: str | Path,
    *,
    window: float | None = None,
    stride: float | None = None,
    batch: int | None = None,
) -> Timeline:
    """Recognises every window of a video.

    Each window is seen in the T frames of a clip, evenly spaced over it, and in the
    crops of the test videos in training.

    Args:
      recogniser: a `stjax.recognition.Recogniser` of a training on videos.
      path: a video, or a folder of frames.
      window: seconds; frames where nothing tells the rate (folders). None: as long as
        the clips of the training were, if these had a length.
      stride: from one window to the next; None: half a window.
      batch: windows recognised at once; None: the recogniser's `largest_batch`.

    Raises:
      UserError: the file is missing or no video, a length is missing or too small, or
        the recogniser does not know how its videos were seen.
    """
    views = recogniser.views
    if views is None:
        raise UserError("this recogniser has no views of videos; give it clips instead")
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"there is no video {path}; check the path")
    footage = open_footage(path.parent, Item(path.name, labels=()))
    rate = footage.rate or 1.0
    span, hop = _lengths(views.sampling, footage, window, stride)
    last = max(footage.length - span, 0)
    starts = np.append(np.arange(0, last, hop), last)
    if len(starts) > 1 and starts[-1] - starts[-2] < 1:  # they see the same
        starts = np.delete(starts, -2)
    places = [
        spread(start, span, recogniser.spec.t_in, footage.length) for start in starts
    ]
    size = recogniser.largest_batch if batch is None else batch
    if size < 1:
        raise UserError(f"batch={size}: expected at least 1")
    size = min(size, len(places))
    pictures: list = []
    clips = _clips(footage, places, views, pictures)
    found = [_recognised(recogniser, some, size) for some in _batches(clips, size)]
    ends = np.minimum(starts + span, footage.length)
    return Timeline(
        recogniser.classes,
        np.stack([starts, ends], 1) / rate,
        np.concatenate(found),
        "s" if footage.rate else "frames",
        str(path),
        tuple((k / rate, picture) for k, picture in pictures),
    )


def _lengths(sampling, footage: Footage, window, stride) -> tuple[float, float]:
    """A window and the way to the next, in frames."""
    rate, unit = footage.rate or 1.0, "seconds" if footage.rate else "frames"
    if window is None:
        if "uniform" in sampling.name:
            raise UserError(
                "this model was trained on whole videos, so its clips have no length;"
                f" set window, in {unit}"
            )
        window = sampling.stretch(footage.rate) / rate
    stride = window / 2 if stride is None else stride
    for name, value in (("window", window), ("stride", stride)):
        if not (math.isfinite(value) and value * rate >= 1):
            raise UserError(
                f"{name}={value:g} {unit}: expected at least a frame, {1 / rate:.3g}"
            )
    return window * rate, stride * rate


def _clips(
    footage: Footage, places: Sequence[np.ndarray], views, pictures: list
) -> Iterator[np.ndarray]:
    """[crops, T, size, size, 3] of each window; `pictures` gets some frames."""
    shown = np.linspace(0, len(places) - 1, min(len(places), _PICTURES)).astype(int)
    shown = {int(places[i][len(places[i]) // 2]) for i in shown}
    wanted = np.unique(np.concatenate(places)).tolist()
    kept, next_window = {}, 0
    for k, frame in footage.frames(wanted):
        if k in shown:
            pictures.append((k, _small(frame)))
        crops = test_crops(frame[None], views.size, views.crops, views.short_side)
        kept[k] = crops[:, 0, ..., ::-1] if views.reverse else crops[:, 0]
        while next_window < len(places) and places[next_window][-1] <= k:
            yield np.stack([kept[i] for i in places[next_window].tolist()], 1)
            next_window += 1
            first = places[next_window][0] if next_window < len(places) else k + 1
            kept = {i: crops for i, crops in kept.items() if i >= first}


def _batches(clips: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    some = []
    for clip in clips:
        some.append(clip)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def _recognised(recogniser, clips: list[np.ndarray], size: int) -> np.ndarray:
    """[N, K] probabilities of N <= size windows [crops, T, size, size, 3]."""
    # A last batch is filled up: another size would be compiled by itself.
    views = np.concatenate([*clips, *clips[:1] * (size - len(clips))])
    logits = recogniser.logits(views, batch=len(views))
    logits = logits.reshape(size, -1, logits.shape[-1])[: len(clips)]
    return aggregate(logits, recogniser.spec).astype(np.float32)


def _small(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    height, width = frame.shape[:2]
    size = max(1, round(width * _PICTURE_HEIGHT / height)), _PICTURE_HEIGHT
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
