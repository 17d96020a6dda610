"""Human3.6M frames: a person acts in a room, filmed by four cameras."""

from pathlib import Path

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.frames import resize
from stjax.data.reading import LATE, existing, open_image
from stjax.data.sources.moving_digits import to_clip
from stjax.errors import UserError


class Human:
    """Human3.6M frames: 4 frames in, 4 out, every fifth frame, 256x256 rgb.

    Files ``train.txt`` and ``test.txt`` with lines ``prefix,start,end``, and the jpgs
    that they name: ``images/S11_Walking.60457274_,1621,1656`` begins with
    ``images/S11_Walking.60457274_001621.jpg``. Other sizes are resized with OpenCV's
    INTER_CUBIC, as OpenSTL does.

    The published protocol selects the model on the test clips. Here ``validation`` is
    the last ``holdout`` of the training scenes (a person and an action, whatever the
    camera); ``holdout=0`` is the published protocol. OpenSTL reads the frames as bgr,
    which its checkpoints expect: ``bgr=True``.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        t_in: int = 4,
        t_out: int = 4,
        frame_step: int = 5,
        size: int = 256,
        holdout: float = 0.05,
        bgr: bool = False,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder with the lists and ``images/``.
          t_in: input frames.
          t_out: target frames.
          frame_step: every how many frames one is taken.
          size: side of the frames.
          holdout: fraction of the training scenes kept for validation.
          bgr: blue, green, red.

        Raises:
          UserError: for a missing list, a wrong line, no clips, or a missing frame.
        """
        if not 0 <= holdout < 1:
            raise UserError(f"data.holdout={holdout}: expected a fraction below 1")
        self._root, self._step, self._bgr = existing(path, "data.path"), frame_step, bgr
        tests = split == "test" or (split == "validation" and holdout == 0)
        file = existing(self._root / ("test.txt" if tests else "train.txt"), "the list")
        clips = _read_list(file)
        if not tests:
            scenes = list(dict.fromkeys(_scene(prefix) for prefix, _ in clips))
            keep = max(1, round(holdout * len(scenes))) if holdout else 0
            held = set(scenes[len(scenes) - keep :])
            validates = split == "validation"
            clips = [c for c in clips if (_scene(c[0]) in held) == validates]
        if not clips:
            raise UserError(f"{file}: no clips are left for split {split!r}")
        self._clips = clips
        names = ("blue", "green", "red") if bgr else ("red", "green", "blue")
        self.spec = ClipSpec(t_in, t_out, size, size, channels=names)
        self._frame(*clips[0])  # fail now if the frames are not there

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        del rng
        prefix, start = self._clips[index]
        n = self.spec.t_in + self.spec.t_out
        frames = [self._frame(prefix, start + k * self._step) for k in range(n)]
        return to_clip(np.stack(frames), self.spec.t_in)

    def _frame(self, prefix: str, number: int) -> np.ndarray:
        file = self._root / f"{prefix}{number:06d}.jpg"
        try:
            frame = open_image(file)
        except OSError as error:
            raise UserError(f"cannot read {file}: {error}; {LATE}") from error
        size = (self.spec.height, self.spec.width)
        frame = resize(frame, size, "cubic", antialias=False)
        return frame[..., ::-1] if self._bgr else frame


def _scene(prefix: str) -> str:
    """``images/S1_Eating.55011271_`` is one of four views of ``images/S1_Eating``."""
    return prefix.rsplit(".", 1)[0]


def _read_list(file: Path) -> list[tuple[str, int]]:
    clips = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        prefix, *numbers = line.split(",")
        if not numbers or not numbers[0].strip().isdigit():
            raise UserError(
                f"{file}:{number}: expected 'prefix,start,end', got {line!r}"
            )
        clips.append((prefix, int(numbers[0])))
    return clips
