"""KTH actions: six human actions, grey, 25 persons."""

import os
from pathlib import Path

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.frames import resize
from stjax.data.reading import LATE, existing, open_image
from stjax.data.sources.moving_digits import to_clip
from stjax.data.windows import Windows, ending_windows
from stjax.errors import UserError

# action -> frames between two windows; None: windows do not overlap.
ACTIONS = {
    "boxing": None,
    "handclapping": None,
    "handwaving": None,
    "walking": None,
    "jogging": 3,
    "running": 3,
}
_TRAIN_PERSONS = 16


class Kth:
    """KTH actions as predicted in the literature: 10 frames in, 20 or 40 out, 128x128.

    Files ``<action>/person01_<action>_d1_uncomp/image_0001.jpg`` (those of PredRNN and
    E3D-LSTM). Persons 1-16 train, 17-25 test. A window is ``t_in + t_out``
    consecutive frame numbers; the windows of a run end with its last frame and are
    apart by their own length, or by 3 frames for jogging and running.

    Frames are the first channel of the jpg, resized bilinearly (OpenCV's
    INTER_LINEAR) and rounded to uint8; OpenSTL keeps the unrounded value.

    The published protocol selects the model on the test clips. Here ``validation`` is
    the last ``holdout`` persons of the training ones; ``holdout=0`` is the published
    protocol.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        t_in: int = 10,
        t_out: int = 20,
        size: int = 128,
        holdout: int = 2,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder with one folder for each action.
          t_in: input frames.
          t_out: target frames.
          size: side of the frames.
          holdout: training persons kept for validation.

        Raises:
          UserError: for missing folders or clips that are too short.
        """
        if not 0 <= holdout < _TRAIN_PERSONS:
            raise UserError(f"data.holdout={holdout}: expected 0 to 15 persons")
        persons = _persons(split, holdout)
        self.spec = ClipSpec(t_in, t_out, size, size)
        self._runs: list[tuple[str, int]] = []  # (folder, number of the first frame)
        segments, strides, span = [], [], t_in + t_out
        for action, stride in ACTIONS.items():
            folder = existing(Path(path, action), "KTH's folder")
            for clip in sorted(folder.iterdir()):
                if clip.name[6:8] not in persons:
                    continue
                for first, last in _runs(clip):
                    step, n = stride or span, last - first + 1
                    segments.append(ending_windows(len(self._runs), n, span, step))
                    strides.append(step)
                    self._runs.append((str(clip), first))
        self._windows = Windows(segments, span, strides)
        if not len(self._windows):
            raise UserError(
                f"{path}: no window of {span} consecutive frames for persons"
                f" {persons[0]}-{persons[-1]} ({split}); lower data.t_out or check the"
                " files"
            )

    def __len__(self) -> int:
        return len(self._windows)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        del rng
        run, start = self._windows[index]
        folder, first = self._runs[run]
        frames = []
        for k in range(self.spec.t_in + self.spec.t_out):
            file = os.path.join(folder, f"image_{first + start + k:04d}.jpg")
            try:
                frame = open_image(file)[..., :1]
            except OSError as error:
                raise UserError(f"cannot read {file}: {error}; {LATE}") from error
            size = (self.spec.height, self.spec.width)
            frames.append(resize(frame, size, antialias=False))
        return to_clip(np.stack(frames), self.spec.t_in)


def _persons(split: str, holdout: int) -> list[str]:
    cut = _TRAIN_PERSONS - holdout
    if split == "train":
        numbers = range(1, cut + 1)
    elif split == "validation" and holdout:
        numbers = range(cut + 1, _TRAIN_PERSONS + 1)
    else:
        numbers = range(_TRAIN_PERSONS + 1, 26)
    return [f"{n:02d}" for n in numbers]


def _runs(folder: Path) -> list[tuple[int, int]]:
    """(first, last) of each run of consecutive frame numbers: image_0257.jpg is 257."""
    names = (e.name for e in os.scandir(folder) if e.name.startswith("image_"))
    numbers = sorted(int(name[6:10]) for name in names if name.endswith(".jpg"))
    runs: list[tuple[int, int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], n)
        else:
            runs.append((n, n))
    return runs
