"""Moving digits, generated online: the default data set, needs no download."""

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.digits import load_digits
from stjax.data.moving_digits import STEP, moving_digits
from stjax.errors import UserError

# First word of the seeds of fixed clips; any constants, but never change them.
_SPLIT_SEED = {"train": 0, "validation": 1, "test": 2}


def fixed_rng(split: str, index: int) -> np.random.Generator:
    """The generator of a fixed clip: a function of split and index alone."""
    return np.random.Generator(np.random.Philox([_SPLIT_SEED[split], index]))


def to_clip(video: np.ndarray, t_in: int) -> dict[str, np.ndarray]:
    """Splits [T, H, W] or [T, H, W, C] into ``input`` and ``target`` with channels."""
    video = video[..., None] if video.ndim == 3 else video
    return {"input": video[:t_in], "target": video[t_in:]}


class MovingDigits:
    """Handwritten digits that drift and bounce, generated online (Moving MNIST rules).

    Training clips are new in every epoch; validation and test clips are fixed, and
    their digits occur in no other split. The rules: `stjax.data.moving_digits`.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str | None = None,
        t_in: int = 10,
        t_out: int = 10,
        size: int = 64,
        digit_size: int = 28,
        num_digits: int = 2,
        step: float = STEP,
        train_clips: int = 10_000,
        eval_clips: int = 1_000,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: where the digits come from (`stjax.data.digits.load_digits`); None for
            the 2,000 real MNIST digits that ship.
          t_in: input frames.
          t_out: target frames.
          size: side of the frames in pixels.
          digit_size: side of the digits in pixels.
          num_digits: digits in a clip.
          step: movement per frame, in units of ``size - digit_size``.
          train_clips: clips that make one epoch.
          eval_clips: clips in the validation and in the test split.

        Raises:
          UserError: for digits larger than the frame, and files missing or damaged.
        """
        if digit_size > size:
            raise UserError(
                f"data.digit_size={digit_size} does not fit in data.size={size}"
            )
        self.split, self.step, self.num_digits = split, step, num_digits
        self.spec = ClipSpec(t_in, t_out, size, size)
        self._length = train_clips if split == "train" else eval_clips
        self._digits = load_digits(split, path, digit_size)

    def __len__(self) -> int:
        return self._length

    @property
    def on_device(self) -> dict[str, object]:
        """Arguments of `stjax.data.device.moving_digits`, for training clips."""
        fields = {"digits": self._digits, "num_digits": self.num_digits}
        return {**fields, "step": self.step}

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        spec = self.spec
        video = moving_digits(
            rng if self.split == "train" else fixed_rng(self.split, index),
            self._digits,
            frames=spec.t_in + spec.t_out,
            height=spec.height,
            width=spec.width,
            num_digits=self.num_digits,
            step=self.step,
        )
        return to_clip(video, spec.t_in)
