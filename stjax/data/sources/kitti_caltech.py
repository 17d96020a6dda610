"""KITTI to Caltech: trained on one car's recordings, tested on another's."""

from pathlib import Path
from typing import Protocol

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.frames import FrameProcess
from stjax.data.hickles import hickle_array, hickle_words
from stjax.data.norpix import index_seq, read_seq
from stjax.data.reading import LATE, existing, natural
from stjax.data.sources.moving_digits import to_clip
from stjax.data.windows import Windows, ending_windows
from stjax.errors import UserError

SIZE = (128, 160)
_EVERY = 3  # Caltech: 30 frames a second become KITTI's 10


class KittiCaltech:
    """KITTI to Caltech, driving: 10 frames in, 1 out, 128x160 rgb.

    One of these under ``path``:

    - ``kitti_hkl/{X,sources}_{train,val}.hkl`` (PredNet's, any hickle version; X is
      uint8 (N, 128, 160, 3)), and ``caltech/setXX/*.seq`` for the test, every third
      frame, scaled to 128 rows and cut to the middle 160 columns (PredNet's
      ``process_im``), or OpenSTL's ``caltech/data_cache.npy`` of them;
    - ``kitticaltech_npy/{train,test}_{data,idx}.npy``: frames, and the first frame of
      each window.

    Windows do not overlap; the last one of a recording ends with it. Frames are rgb.
    OpenSTL reads KITTI as rgb, but Caltech as bgr, which its published numbers are of
    (``bgr=True``); its cache holds bgr; its .npy files are taken as they are.

    The published protocol has no validation and selects the model on the test clips.
    Here ``validation`` is ``X_val.hkl``, or, without it, the last ``holdout``
    recordings of the training file (of the .npy: a twentieth of the windows);
    ``holdout=0`` is the published protocol.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        t_in: int = 10,
        t_out: int = 1,
        holdout: int = 2,
        bgr: bool = False,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder with the folders above.
          t_in: input frames.
          t_out: target frames.
          holdout: training recordings kept for validation.
          bgr: Caltech's frames as blue, green, red.

        Raises:
          UserError: for files missing or damaged.
        """
        root, span, self._flip = existing(path, "data.path"), t_in + t_out, False
        wanted = "test" if (split, holdout) == ("validation", 0) else split
        if (root / "kitti_hkl").is_dir():
            if wanted == "test":
                self._frames, self._starts = _caltech(root / "caltech", span)
                self._flip = bgr != isinstance(self._frames, NpyFrames)
            else:
                self._frames, self._starts = _kitti(root, wanted, span, holdout)
        elif (root / "kitticaltech_npy").is_dir():
            part = "test" if wanted == "test" else "train"
            folder = root / "kitticaltech_npy"
            self._frames = NpyFrames(folder / f"{part}_data.npy")
            starts = _load(folder / f"{part}_idx.npy").tolist()
            keep = max(1, len(starts) // 20) if holdout and part == "train" else 0
            cut = len(starts) - keep
            self._starts = starts[cut:] if wanted == "validation" else starts[:cut]
        else:
            raise UserError(f"{root} has neither kitti_hkl/ nor kitticaltech_npy/")
        if not self._starts:
            raise UserError(
                f"{root}: no window of {span} frames in split {split!r}; lower"
                " data.t_in or check the files"
            )
        unit = self._frames.dtype != "uint8"
        self.spec = ClipSpec(
            t_in,
            t_out,
            *SIZE,
            channels=("red", "green", "blue"),
            dtype=self._frames.dtype,
            scale=(1.0,) if unit else (255.0,),
        )

    def __len__(self) -> int:
        return len(self._starts)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        del rng
        start = self._starts[index]
        span = self.spec.t_in + self.spec.t_out
        video = self._frames.read(start, start + span)
        return to_clip(video[..., ::-1] if self._flip else video, self.spec.t_in)


class _Frames(Protocol):
    """All frames of a split, one recording after the other."""

    dtype: str

    def read(self, begin: int, end: int) -> np.ndarray:
        """Frames [end - begin, 128, 160, 3]."""


def _starts(recordings: list[int], span: int) -> list[int]:
    """First frames of all windows of recordings of these lengths."""
    begins = np.cumsum([0, *recordings])
    windows = Windows(
        [ending_windows(k, n, span, span) for k, n in enumerate(recordings)], span, span
    )
    places = (windows[k] for k in range(len(windows)))
    return [int(begins[sequence]) + start for sequence, start in places]


def _kitti(root: Path, split: str, span: int, holdout: int):
    folder, name = root / "kitti_hkl", "train"
    if split == "validation" and (folder / "X_val.hkl").exists():
        name = "val"
    frames = HickleFrames(existing(folder / f"X_{name}.hkl", "KITTI's"))
    words = hickle_words(existing(folder / f"sources_{name}.hkl", "KITTI's"))
    if len(words) != frames.length:
        raise UserError(
            f"{folder}: X_{name}.hkl has {frames.length} frames, sources_{name}.hkl"
            f" {len(words)} names; get both again"
        )
    change = [k for k in range(1, len(words)) if words[k] != words[k - 1]]
    recordings = np.diff([0, *change, len(words)]).tolist()
    starts = _starts(recordings, span)
    if name == "val" or holdout == 0 or (folder / "X_val.hkl").exists():
        return frames, starts
    if holdout >= len(recordings):
        raise UserError(
            f"data.holdout={holdout}: {folder} has {len(recordings)} training"
            " recordings"
        )
    border = sum(recordings[:-holdout])
    return frames, [s for s in starts if (s >= border) == (split == "validation")]


def _caltech(folder: Path, span: int):
    existing(folder, "Caltech's folder")
    if (folder / "data_cache.npy").exists():
        starts = _load(folder / "indices_cache.npy").tolist()
        return NpyFrames(folder / "data_cache.npy"), starts
    frames = SeqFrames(sorted(folder.glob("set*/*.seq"), key=natural))
    if not frames.lengths:
        raise UserError(f"{folder} holds no set*/*.seq videos and no data_cache.npy")
    return frames, _starts(frames.lengths, span)


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(existing(path, "KITTI-Caltech's"), "r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read {path}: {error}; get it again") from error


def _check(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) != 4 or shape[1:] != (*SIZE, 3):
        raise UserError(f"{path} has shape {shape}, expected (N, 128, 160, 3)")


class NpyFrames:
    """Frames in one .npy, uint8 or float in [0, 1]."""

    def __init__(self, path: Path):
        self._path, self._data = path, _load(path)
        _check(path, self._data.shape)
        self.dtype = "uint8" if self._data.dtype == np.uint8 else "float32"

    def __getstate__(self):
        return {"_path": self._path, "dtype": self.dtype}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._data = _load(self._path)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Frames [end - begin, 128, 160, 3]."""
        return np.array(self._data[begin:end], self.dtype)


class HickleFrames:
    """Frames in one .hkl."""

    dtype = "uint8"

    def __init__(self, path: Path):
        self._path = path
        self._data = hickle_array(path)
        _check(path, self._data.shape)
        self.length = len(self._data)

    def __getstate__(self):
        return {"_path": self._path, "length": self.length}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._data = hickle_array(self._path)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Frames [end - begin, 128, 160, 3]."""
        return self._data[begin:end].astype(np.uint8)


class SeqFrames:
    """Every third frame of .seq videos, one after the other."""

    dtype = "uint8"

    def __init__(self, paths: list[Path]):
        self._places: list[tuple[Path, int, int]] = []
        self.lengths: list[int] = []
        for path in paths:
            try:
                places = index_seq(path)[_EVERY - 1 :: _EVERY]
            except OSError as error:
                raise UserError(f"cannot read {path}: {error}; get it again") from error
            self._places += [(path, *place) for place in places]
            self.lengths.append(len(places))
        self._process = FrameProcess(size=SIZE, fit="crop")

    def read(self, begin: int, end: int) -> np.ndarray:
        """Frames [end - begin, 128, 160, 3]."""
        frames = []
        for place in self._places[begin:end]:
            try:
                frames.append(self._process(read_seq(*place)))
            except OSError as error:
                raise UserError(f"cannot read {place[0]}: {error}; {LATE}") from error
        return np.stack(frames)
