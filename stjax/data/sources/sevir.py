"""SEVIR: storms over the USA as vertically integrated liquid (radar), 5-minutely."""

import csv
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.frames import resize
from stjax.data.reading import existing
from stjax.data.windows import Segment, Windows
from stjax.errors import UserError

_EVENT_FRAMES = 49
_CLIPS_PER_EVENT = 3


class Sevir:
    """SEVIR's radar product VIL (Veillette et al. 2020): 13 frames in, 12 out.

    One of these under ``path``:

    - ``processed/vil_training.h5`` and ``vil_testing.h5`` with ``IN`` (N, H, W, 13) and
      ``OUT`` (N, H, W, 12), uint8 (SEVIR's nowcast files as OpenSTL names them; also
      ``IN_vil`` and ``OUT_vil``);
    - ``CATALOG.csv`` and the events ``vil/<year>/*.h5`` (here or in ``data``), each
      with ``vil`` (N, 384, 384, 49): every event gives windows that begin ``stride``
      frames apart, and the splits are by time, ``train < first_validation <=
      validation < first_test <= test`` (Earthformer's dates).

    A model sees (vil - 33.44) / 47.54; metrics compare raw values, 0 to 255. The
    nowcast files have no validation: it is the last ``holdout`` of the training clips
    (``holdout=0``: the test clips, as OpenSTL).
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        t_in: int = 13,
        t_out: int = 12,
        stride: int = 12,
        size: Sequence[int] | None = None,
        first_validation: str = "2019-01-01",
        first_test: str = "2019-06-01",
        holdout: float = 0.05,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder of SEVIR.
          t_in: input frames.
          t_out: target frames.
          stride: frames between the windows of an event.
          size: (height, width); None: as stored.
          first_validation: first day of the validation events.
          first_test: first day of the test events.
          holdout: fraction of the training clips of the nowcast file.

        Raises:
          UserError: for missing or damaged files.
        """
        root = existing(path, "data.path")
        if (root / "CATALOG.csv").exists():
            events = _events(root, split, first_validation, first_test)
            self._clips = EventClips(events, t_in, t_out, stride)
        else:
            tests = split == "test" or (split == "validation" and holdout == 0)
            name = "vil_testing.h5" if tests else "vil_training.h5"
            file = existing(root / "processed" / name, "SEVIR's nowcast file")
            self._clips = NowcastClips(file, t_in, t_out)
            if not tests:
                self._clips.keep(split, holdout)
        if not len(self._clips):
            raise UserError(f"{root} has no clips in split {split!r}; check the dates")
        self._size = size and tuple(size)
        height, width = self._size or self._clips.size
        self.spec = ClipSpec(
            t_in,
            t_out,
            height,
            width,
            channels=("vil",),
            offset=(33.44,),
            scale=(47.54,),
            metric_space="raw",
        )

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        del rng
        parts = {}
        for name, x in zip(("input", "target"), self._clips.read(index), strict=True):
            x = np.moveaxis(x, -1, 0)[..., None].astype(np.uint8)  # [H, W, T] before
            parts[name] = resize(x, self._size) if self._size else x
        return parts


class H5Cache:
    """Open HDF5 files of this process; pickles empty."""

    def __init__(self):
        self._files, self._lock = {}, threading.Lock()

    def __reduce__(self):
        return H5Cache, ()

    def __call__(self, path: Path):
        """The open file.

        Raises:
          UserError: if it cannot be opened.
        """
        try:
            import h5py
        except ImportError as error:
            raise UserError(
                "HDF5 files need h5py: pip install 'stjax[grids]'"
            ) from error
        with self._lock:
            if path not in self._files:
                try:
                    self._files[path] = h5py.File(path, "r")
                except OSError as error:
                    raise UserError(f"cannot read {path}: {error}") from error
            return self._files[path]


class NowcastClips:
    """Ready clips of one nowcast file."""

    def __init__(self, file: Path, t_in: int, t_out: int):
        self._file, self._open = file, H5Cache()
        names = list(self._open(file))
        self._names = next(
            (
                pair
                for pair in (("IN", "OUT"), ("IN_vil", "OUT_vil"))
                if pair[0] in names
            ),
            None,
        )
        if self._names is None:
            raise UserError(f"{file} has {', '.join(names)}; expected IN and OUT")
        shapes = [self._open(file)[name].shape for name in self._names]
        if (shapes[0][-1], shapes[1][-1]) != (t_in, t_out):
            raise UserError(
                f"{file} has {shapes[0][-1]} input and {shapes[1][-1]} target frames:"
                " set data.t_in and data.t_out to these"
            )
        self.size, self._clips = shapes[0][1:3], range(shapes[0][0])

    def keep(self, split: str, holdout: float) -> None:
        """Keeps the training or the validation part; no event is in both."""
        n = len(self._clips)
        cut = n - round(n * holdout)
        gap = _CLIPS_PER_EVENT - 1 if holdout else 0
        self._clips = range(cut, n) if split == "validation" else range(cut - gap)

    def __len__(self) -> int:
        return len(self._clips)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Input and target, each [H, W, T]."""
        file, k = self._open(self._file), self._clips[index]
        return tuple(file[name][k] for name in self._names)


class EventClips:
    """Windows of the events of the raw files."""

    def __init__(
        self, events: list[tuple[Path, int]], t_in: int, t_out: int, stride: int
    ):
        if t_in + t_out > _EVENT_FRAMES:
            raise UserError(
                f"data.t_in + t_out = {t_in + t_out}: an event has 49 frames"
            )
        self._events, self._open, self._t = events, H5Cache(), (t_in, t_out)
        segments = [Segment(k, 0, _EVENT_FRAMES) for k in range(len(events))]
        self._windows = Windows(segments, t_in + t_out, stride)
        self.size = self._open(events[0][0])["vil"].shape[1:3] if events else (0, 0)

    def __len__(self) -> int:
        return len(self._windows)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Input and target, each [H, W, T]."""
        event, start = self._windows[index]
        path, k = self._events[event]
        video = self._open(path)["vil"][k, :, :, start : start + sum(self._t)]
        return video[..., : self._t[0]], video[..., self._t[0] :]


def _events(root: Path, split: str, validation: str, test: str):
    """(file, position) of the split's events, in the order of time."""
    begin, end = {
        "train": ("", validation),
        "validation": (validation, test),
        "test": (test, "9999"),
    }[split]
    rows = []
    with open(root / "CATALOG.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["img_type"] == "vil" and begin <= row["time_utc"] < end:
                # The catalogue says vil/2019/...; the files lie in data/ of the bucket.
                rows.append((row["time_utc"], row["file_name"], int(row["file_index"])))
    base = root / "data" if (root / "data" / "vil").is_dir() else root
    return [(base / name, k) for _, name, k in sorted(rows)]
