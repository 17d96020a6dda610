"""Generated clips of tasks with a known answer, see `stjax.data.known_answers`."""

import numpy as np

from stjax.data import known_answers
from stjax.data.base import LabelSpec
from stjax.data.sources import SPLITS
from stjax.errors import UserError


class _Generated:
    """Clips that are drawn when they are read, each from (seed, split, index) alone."""

    def __init__(
        self,
        split: str,
        clips: tuple[int, int],
        seed: int,
        shape: tuple[int, int],
        classes: tuple[str, ...],
    ):
        if min(clips) < len(classes):
            raise UserError(
                f"data.train_clips={clips[0]}, data.eval_clips={clips[1]}: there have"
                f" to be at least {len(classes)}, one of each class"
            )
        self._length = clips[split != "train"]
        self._key = (seed, SPLITS.index(split))
        self.spec = LabelSpec(
            t_in=shape[0],
            height=shape[1],
            width=shape[1],
            classes=classes,
            channels=("grey",),
            offset=(127.5,),
            scale=(63.75,),
        )

    def __len__(self) -> int:
        return self._length

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`; the classes take turns."""
        del rng
        key = np.random.SeedSequence((*self._key, index))
        label = index % len(self.spec.classes)
        target = np.zeros(len(self.spec.classes), np.float32)
        target[label] = 1
        video = self._draw(np.random.Generator(np.random.Philox(key)), label)
        return {"input": video[None], "target": target}

    def _draw(self, rng: np.random.Generator, label: int) -> np.ndarray:
        raise NotImplementedError


class OrderLadder(_Generated):
    """Which of two events comes first; needs 0 to 3 temporal layers (generated)."""

    def __init__(
        self,
        split: str = "train",
        *,
        size: int = 12,
        sigma: float = 0.1,
        train_clips: int = 20_000,
        eval_clips: int = 1_000,
        seed: int = 0,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          size: rows and columns of the 16 frames.
          sigma: of the noise; events differ by 0.35 from the background.
          train_clips: clips in the training split.
          eval_clips: clips in the validation and in the test split.
          seed: of the clips.
        """
        self.size, self.sigma = size, sigma
        shape = (known_answers.LADDER_FRAMES, size)
        classes = known_answers.LADDER_CLASSES
        super().__init__(split, (train_clips, eval_clips), seed, shape, classes)

    def _draw(self, rng: np.random.Generator, label: int) -> np.ndarray:
        return known_answers.order_ladder(rng, label, self.size, self.sigma)


class Appearance(_Generated):
    """Which shape jumps about; needs no temporal layer (generated)."""

    def __init__(
        self,
        split: str = "train",
        *,
        t_in: int = 8,
        size: int = 16,
        sigma: float = 0.1,
        train_clips: int = 20_000,
        eval_clips: int = 1_000,
        seed: int = 0,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          t_in: frames.
          size: rows and columns.
          sigma: of the noise; shapes are 0.35 brighter than the background.
          train_clips: clips in the training split.
          eval_clips: clips in the validation and in the test split.
          seed: of the clips.
        """
        self.shape, self.sigma = (t_in, size), sigma
        classes = tuple(known_answers.SHAPES)
        super().__init__(split, (train_clips, eval_clips), seed, self.shape, classes)

    def _draw(self, rng: np.random.Generator, label: int) -> np.ndarray:
        return known_answers.appearance(rng, label, *self.shape, self.sigma)


class ShapeAndDrift(_Generated):
    """Which shape drifts which way; half of it needs time (generated)."""

    def __init__(
        self,
        split: str = "train",
        *,
        t_in: int = 8,
        size: int = 16,
        sigma: float = 0.1,
        shuffle: bool = False,
        train_clips: int = 20_000,
        eval_clips: int = 1_000,
        seed: int = 0,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          t_in: frames; `size` is a multiple of it.
          size: rows and columns.
          sigma: of the noise; shapes are 0.35 brighter than the background.
          shuffle: frames in random order, a control: nothing tells the direction.
          train_clips: clips in the training split.
          eval_clips: clips in the validation and in the test split.
          seed: of the clips.

        Raises:
          UserError: the shape would not go around the torus exactly once.
        """
        if size % t_in:
            raise UserError(
                f"data.size={size} is no multiple of data.t_in={t_in}, so that no drift"
                " of whole pixels comes back to its start; change one"
            )
        self.shape, self.sigma, self.shuffle = (t_in, size), sigma, shuffle
        classes = known_answers.DRIFT_CLASSES
        super().__init__(split, (train_clips, eval_clips), seed, self.shape, classes)

    def _draw(self, rng: np.random.Generator, label: int) -> np.ndarray:
        return known_answers.shape_and_drift(
            rng, label, *self.shape, self.sigma, self.shuffle
        )
