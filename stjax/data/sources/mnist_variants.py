"""Moving FashionMNIST, Moving MNIST on CIFAR-10 pictures, and noisy Moving MNIST."""

import io
import math
import pickle
from pathlib import Path

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.digits import find_idx, read_idx
from stjax.data.frames import resize
from stjax.data.moving_digits import STEP, draw, moving_digits
from stjax.data.reading import existing
from stjax.data.sources.moving_digits import fixed_rng, to_clip
from stjax.data.sources.moving_mnist import FrameFile, MovingMnist
from stjax.errors import UserError, unknown

_ZOO = "OpenSTL's data releases (github.com/chengtan9907/OpenSTL)"
NOISES = ("dynamic", "missing", "perceptual")


class _Generated:
    """Clips generated from held-in or held-out pictures, and a fixed test file."""

    frame: tuple[int, ...] = (64, 64)
    channels: tuple[str, ...] = ("grey",)
    test_file = ""

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
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder with the files named above.
          t_in: input frames.
          t_out: target frames; the test file has 20 frames in all.
          train_clips: clips that make one epoch.
          validation_clips: clips in the validation split.
          holdout: training pictures kept for validation, the last ones; with 0
            training takes all, as published, and so does validation.

        Raises:
          UserError: for files missing, truncated or damaged.
        """
        self.split = split
        self.spec = ClipSpec(t_in, t_out, 64, 64, channels=self.channels)
        folder = existing(path, "data.path")
        if split == "test":
            self._file = FrameFile(folder / self.test_file, self.frame, _ZOO)
            frames, self._length = self._file.shape[:2]
            if t_in + t_out > frames:
                raise UserError(
                    f"{folder / self.test_file}: has {frames} frames a clip;"
                    f" data.t_in={t_in} and data.t_out={t_out} need more"
                )
            return
        file = find_idx(folder, "train-images-idx3-ubyte")
        if file is None:
            raise UserError(
                f"{folder}/train-images-idx3-ubyte.gz: no such file; get it from {_ZOO}"
            )
        self._digits = self._part(read_idx(file), holdout)
        self._length = train_clips if split == "train" else validation_clips

    def _part(self, pictures: np.ndarray, holdout: int) -> np.ndarray:
        if not 0 <= holdout < len(pictures):
            raise UserError(
                f"data.holdout={holdout}: there are {len(pictures)} pictures"
            )
        if holdout == 0:
            return pictures
        cut = len(pictures) - holdout
        return pictures[:cut] if self.split == "train" else pictures[cut:]

    def __len__(self) -> int:
        return self._length

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        frames = self.spec.t_in + self.spec.t_out
        if self.split == "test":
            return to_clip(self._file.clip(index, frames), self.spec.t_in)
        if self.split == "validation":
            rng = fixed_rng("validation", index)
        return to_clip(self._generate(rng, frames), self.spec.t_in)

    def _generate(self, rng: np.random.Generator, frames: int) -> np.ndarray:
        return moving_digits(rng, self._digits, frames=frames)


class MovingFmnist(_Generated):
    """Moving FashionMNIST: Moving MNIST with pieces of clothing, 64x64, 10 to 10.

    Files ``train-images-idx3-ubyte.gz`` (FashionMNIST) and ``fmnist_test_seq.npy``
    uint8 (20, 10000, 64, 64). ``validation`` is generated from the last ``holdout``
    training pictures, where the published protocol uses the test clips.
    """

    test_file = "fmnist_test_seq.npy"


class MovingMnistCifar(_Generated):
    """Moving MNIST in front of a CIFAR-10 picture, 64x64 rgb, 10 to 10.

    A digit's pixels above 1 become 255; the background is one CIFAR-10 picture (any
    of the 60,000), enlarged cubically, which stays; both meet by the maximum. Files
    ``train-images-idx3-ubyte.gz``, ``mnist_cifar_test_seq.npy`` uint8 (20, 10000, 64,
    64, 3), and the folder ``cifar-10-batches-py`` here or in ``cifar10`` here or one
    folder up. ``validation`` is generated from the last ``holdout`` digits and
    pictures, where the published protocol uses the test clips.
    """

    frame = (64, 64, 3)
    channels = ("red", "green", "blue")
    test_file = "mnist_cifar_test_seq.npy"

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
    ):
        super().__init__(
            split,
            path=path,
            t_in=t_in,
            t_out=t_out,
            train_clips=train_clips,
            validation_clips=validation_clips,
            holdout=holdout,
        )
        if split != "test":
            self._digits = np.where(self._digits > 1, 255, self._digits).astype("u1")
            self._pictures = self._part(read_cifar(Path(path)), holdout)

    def _generate(self, rng: np.random.Generator, frames: int) -> np.ndarray:
        picture = self._pictures[rng.integers(len(self._pictures))]
        back = resize(picture, (64, 64), "cubic", antialias=False)
        return np.maximum(back, super()._generate(rng, frames)[..., None])


class _Arrays(pickle.Unpickler):
    """Unpickles dictionaries of numpy arrays and nothing else: no code runs."""

    _ALLOWED = {"_reconstruct", "ndarray", "dtype", "_frombuffer"}

    def find_class(self, module: str, name: str):
        if module.split(".")[0] == "numpy" and name in self._ALLOWED:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 3 writes them
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def read_cifar(folder: Path) -> np.ndarray:
    """All CIFAR-10 pictures of the python version's files, uint8 [N, 32, 32, 3].

    Args:
      folder: where ``cifar-10-batches-py`` is, or ``cifar10`` with it, or beside.

    Raises:
      UserError: if it is not there or damaged.
    """
    near = (folder, folder / "cifar10", folder.parent / "cifar10")
    places = [p / "cifar-10-batches-py" for p in near]
    place = next((p for p in places if p.is_dir()), None)
    if place is None:
        raise UserError(
            f"{places[1]}: no such folder; unpack cifar-10-python.tar.gz"
            " (cs.toronto.edu/~kriz/cifar.html) there"
        )
    parts = []
    for file in [*sorted(place.glob("data_batch_*")), place / "test_batch"]:
        try:
            blob = file.read_bytes()
            part = _Arrays(io.BytesIO(blob), encoding="bytes").load()[b"data"]
            parts.append(part.reshape(-1, 3, 32, 32))
        except (OSError, EOFError, KeyError, ValueError, pickle.PickleError) as error:
            raise UserError(f"cannot read {file}: {error}; get it again") from error
    return np.concatenate(parts).transpose(0, 2, 3, 1)


def shaken(
    rng: np.random.Generator, t_in: int, t_out: int, sigma: float = 0.2
) -> np.ndarray:
    """Path of a digit whose velocity is disturbed at each of the input frames.

    Walls act as in `stjax.data.moving_digits`.

    Returns:
      [t_in + t_out, 2] (row, column), each in [0, 1].
    """
    *start, turn = rng.random(3)
    theta = 2.0 * math.pi * turn
    velocity = np.tile([math.sin(theta), math.cos(theta)], (t_in + t_out, 1))
    velocity[:t_in] += rng.normal(0.0, sigma, (t_in, 2))
    position, sign, path = np.array(start), np.ones(2), []
    for v in velocity:
        position = position + sign * STEP * v
        sign = np.where((position <= 0) | (position >= 1), -sign, sign)
        position = np.clip(position, 0, 1)
        path.append(position)
    return np.stack(path)


class NoisyMovingMnist(MovingMnist):
    """Moving MNIST whose training inputs are disturbed: dynamic, missing, perceptual.

    ``noise="dynamic"``: N(0, 0.2) is added to both components of a digit's velocity at
    each input frame; ``"missing"``: each input frame is black with probability 0.2;
    ``"perceptual"``: a black square of 24x24 somewhere in each input frame. Targets,
    validation and test clips are clean. Files as for ``moving_mnist``.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        noise: str = "perceptual",
        t_in: int = 10,
        t_out: int = 10,
        train_clips: int = 10_000,
        validation_clips: int = 1_000,
        holdout: int = 5_000,
    ):
        if noise not in NOISES:
            raise unknown("data.noise", noise, NOISES)
        self.noise = noise
        super().__init__(
            split,
            path=path,
            t_in=t_in,
            t_out=t_out,
            train_clips=train_clips,
            validation_clips=validation_clips,
            holdout=holdout,
        )

    on_device = None

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        if self.split != "train":
            return super().clip(index, rng)
        t_in, t_out = self.spec.t_in, self.spec.t_out
        if self.noise == "dynamic":
            images = self._digits[rng.integers(len(self._digits), size=2)]
            paths = np.stack([shaken(rng, t_in, t_out) for _ in images])
            corners = (paths * (64 - 28)).astype(np.int32)
            return to_clip(draw(images, corners, 64, 64), t_in)
        clip = super().clip(index, rng)
        if self.noise == "missing":
            clip["input"][rng.random(t_in) < 0.2] = 0
        else:
            for frame, (y, x) in zip(
                clip["input"], rng.integers(64 - 24, size=(t_in, 2)), strict=True
            ):
                frame[y : y + 24, x : x + 24] = 0
        return clip
