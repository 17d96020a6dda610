"""Kinetics as a prediction task: everyday videos of people, 256x256."""

import csv
import functools
from pathlib import Path

import numpy as np
from av.video.reformatter import VideoReformatter

from stjax.data.base import ClipSpec
from stjax.data.frames import FrameProcess
from stjax.data.reading import LATE, Skips, existing
from stjax.data.sources.moving_digits import to_clip
from stjax.data.video import VideoIndex, decode, index_video, rgb
from stjax.errors import UserError

_LISTS = {"train": "train", "validation": "val", "test": "test"}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Kinetics:
    """Kinetics-400 clips as OpenSTL predicts them: 4 frames in, 4 out, 256x256 rgb.

    Files ``annotations/{train,val,test}.csv`` (columns label, youtube_id, time_start,
    time_end, split) and ``<split>/<youtube_id>_<start>_<end>.mp4`` with times of six
    digits. Every ``frame_step``-th frame from a random place in training, from the
    beginning otherwise; a video that is too short repeats its last frame. The shorter
    side becomes ``size``, and the middle is cut out. A model sees the values normalised
    with ImageNet's mean and deviation.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        t_in: int = 4,
        t_out: int = 4,
        frame_step: int = 2,
        size: int = 256,
        skip_unreadable: bool = False,
    ):
        """Opens one split; the videos are opened when their clip is asked for.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder with ``annotations/``.
          t_in: input frames.
          t_out: target frames.
          frame_step: every how many frames one is taken.
          size: side of the frames.
          skip_unreadable: leave out videos that are missing (some always are);
            ``skipped`` and a warning name them. For damaged ones see `data.bad` of
            `stjax.data.pipeline`.

        Raises:
          UserError: for a missing list or, unless skipped, video.
        """
        root = existing(path, "data.path")
        file = existing(root / "annotations" / f"{_LISTS[split]}.csv", "Kinetics' list")
        self._skips, self._videos = Skips(skip_unreadable), []
        for video in _read_list(file, root):
            if video.is_file():
                self._videos.append(video)
            else:
                self._skips.add(video, "no such file")
        if not self._videos:
            raise UserError(f"{file}: none of its videos is there")
        self._skips.report()
        self._random, self._step = split == "train", frame_step
        self._process = FrameProcess(size=(size, size), fit="crop")
        self.spec = ClipSpec(
            t_in,
            t_out,
            size,
            size,
            channels=("red", "green", "blue"),
            offset=tuple(255 * m for m in _MEAN),
            scale=tuple(255 * s for s in _STD),
        )

    @property
    def skipped(self) -> list[str]:
        """Videos that were left out."""
        return self._skips.names

    def __len__(self) -> int:
        return len(self._videos)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        place = rng.random() if self._random else 0.0
        return to_clip(self._read(self._videos[index], place), self.spec.t_in)

    def _read(self, path: Path, place: float) -> np.ndarray:
        n = self.spec.t_in + self.spec.t_out
        try:
            index = _index(str(path))
            room = max(0, index.length - (n - 1) * self._step - 1)
            first = int(place * (room + 1))
            wanted = np.minimum(first + np.arange(n) * self._step, index.length - 1)
            frames, convert = {}, VideoReformatter()
            for k, frame in decode(index, int(wanted[0])):
                if k in wanted:
                    frames[k] = self._process(rgb(frame, convert))
                if k >= wanted[-1]:
                    break
            return np.stack([frames[k] for k in wanted.tolist()])
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise UserError(f"cannot read {path}: {error!r}; {LATE}") from error


@functools.lru_cache(maxsize=4096)
def _index(path: str) -> VideoIndex:
    return index_video(path)


def _read_list(file: Path, root: Path) -> list[Path]:
    videos = []
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            try:
                start, end = int(row["time_start"]), int(row["time_end"])
                name = f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
                videos.append(root / row["split"] / name)
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{file}: expected columns label, youtube_id, time_start, time_end,"
                    f" split; got {row}"
                ) from error
    return videos
