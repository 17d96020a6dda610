"""Moving MNIST as published: online training clips, the fixed test file."""

from pathlib import Path

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.digits import MNIST_URL, find_idx, read_idx
from stjax.data.moving_digits import moving_digits
from stjax.data.sources.moving_digits import fixed_rng, to_clip
from stjax.errors import UserError

TEST_URL = "http://www.cs.toronto.edu/~nitish/unsupervised_video/mnist_test_seq.npy"


class FrameFile:
    """A ``.npy`` file of clips, frames first, mapped into memory and read on demand.

    Pickles as its path, so that worker processes map the file themselves instead of
    receiving hundreds of megabytes.

    Attributes:
      path: the file.
      shape: (T, N, H, W) or (T, N, H, W, C).
    """

    def __init__(self, path: Path, frame: tuple[int, ...], url: str):
        """Opens the file and checks what it holds.

        Args:
          path: the file, uint8 (T, N, *frame).
          frame: expected shape of one frame.
          url: where a user can get the file.
        """
        self.path = path
        if not path.is_file():
            raise UserError(f"{path}: no such file; get it from {url}")
        try:
            self._frames = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(
                f"{path}: cannot be read ({error}); the file is truncated or damaged, "
                f"get it again from {url}"
            ) from None
        self.shape = self._frames.shape
        if self.shape[2:] != frame or self._frames.dtype != np.uint8:
            sizes = ", ".join(map(str, frame))
            raise UserError(
                f"{path}: holds {self._frames.dtype} {self.shape}; expected uint8 "
                f"(frames, clips, {sizes})"
            )

    def __getstate__(self) -> dict:
        return {"path": self.path, "shape": self.shape}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._frames = np.load(self.path, mmap_mode="r", allow_pickle=False)

    def clip(self, index: int, frames: int) -> np.ndarray:
        """The first frames of a clip, [frames, H, W(, C)], copied into memory."""
        return np.array(self._frames[:frames, index])


class MovingMnist:
    """Moving MNIST, the benchmark: 64x64, two digits, 10,000 fixed test clips.

    Training clips are generated online from MNIST's training digits, 10,000 an
    epoch, as published. The published protocol also selects the model on the test
    clips; here ``validation`` is generated from the last ``holdout`` training digits,
    which the training clips then do not use.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        t_in: int = 10,
        t_out: int = 10,
        train_clips: int = 10_000,
        validation_clips: int = 1_000,
        holdout: int = 5_000,
        test: str = "npy",
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: folder with ``train-images-idx3-ubyte.gz`` and ``mnist_test_seq.npy``.
          t_in: input frames.
          t_out: target frames; the test file has 20 frames in all.
          train_clips: clips that make one epoch.
          validation_clips: clips in the validation split.
          holdout: training digits kept for validation; 0 trains on all, as published.
          test: ``"npy"`` for the published file; ``"tfds"`` for the same clips from
            TensorFlow Datasets' ``moving_mnist`` in that folder (needs TensorFlow).

        Raises:
          UserError: for files missing, truncated or damaged.
        """
        self.split = split
        self.spec = ClipSpec(t_in, t_out, 64, 64)
        folder = Path(path).expanduser()
        if split == "test":
            self._open_test(folder, test)
            return
        file = find_idx(folder, "train-images-idx3-ubyte")
        if file is None:
            raise UserError(
                f"{folder}/train-images-idx3-ubyte.gz: no such file; get it from "
                f"{MNIST_URL}"
            )
        digits = read_idx(file)
        if not 0 <= holdout < len(digits) or (split == "validation" and not holdout):
            raise UserError(
                f"data.holdout={holdout}: {file.name} has {len(digits)} digits; both "
                "training and validation need some"
            )
        cut = len(digits) - holdout
        self._digits = digits[:cut] if split == "train" else digits[cut:]
        self._length = train_clips if split == "train" else validation_clips

    def _open_test(self, folder: Path, test: str) -> None:
        if test not in ("npy", "tfds"):
            raise UserError(f"data.test={test!r}: expected 'npy' or 'tfds'")
        file = folder / "mnist_test_seq.npy"
        if test == "tfds":
            file = folder / "moving_mnist_tfds.npy"
            if not file.is_file():
                write_tfds_clips(folder, file)
        self._file = FrameFile(file, (64, 64), TEST_URL)
        frames, self._length = self._file.shape[:2]
        if self.spec.t_in + self.spec.t_out > frames:
            raise UserError(
                f"{file}: has {frames} frames a clip; data.t_in={self.spec.t_in} and "
                f"data.t_out={self.spec.t_out} need more"
            )

    def __len__(self) -> int:
        return self._length

    @property
    def on_device(self) -> dict[str, object] | None:
        """Arguments of `stjax.data.device.moving_digits`, for training clips."""
        return {"digits": self._digits}

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        frames = self.spec.t_in + self.spec.t_out
        if self.split == "test":
            return to_clip(self._file.clip(index, frames), self.spec.t_in)
        if self.split == "validation":
            rng = fixed_rng("validation", index)
        return to_clip(moving_digits(rng, self._digits, frames=frames), self.spec.t_in)


def write_tfds_clips(folder: Path, file: Path) -> None:
    """Writes TFDS `moving_mnist` as one array file, for random access.

    TFDS reads videos only with TensorFlow and only in order, so this happens once.

    Args:
      folder: the TFDS data folder; TFDS downloads there what is missing.
      file: where to write uint8 (20, N, 64, 64).
    """
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        raise UserError(
            "TFDS moving_mnist needs TensorFlow: pip install 'stjax[tfdata]', or use "
            f"data.test=npy with {TEST_URL}"
        ) from None
    import tensorflow_datasets as tfds

    part = file.with_suffix(".part")
    try:
        data, info = tfds.load(
            "moving_mnist", split="test", data_dir=folder, with_info=True
        )
        count = info.splits["test"].num_examples
        clips = np.lib.format.open_memmap(part, "w+", np.uint8, (20, count, 64, 64))
        for i, item in enumerate(tfds.as_numpy(data)):
            clips[:, i] = item["image_sequence"][..., 0]
    except Exception as error:  # TFDS has no common class for what goes wrong here
        part.unlink(missing_ok=True)
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"TFDS moving_mnist in {folder} cannot be read ({first}); "
            f"or use data.test=npy with {TEST_URL}"
        ) from None
    clips.flush()
    part.rename(file)
