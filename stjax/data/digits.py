"""Handwritten digits, by path: shipped with the package, Keras, idx or TFDS files.

Every reader gives uint8 images [N, 28, 28]; `load_digits` splits and resizes them.
"""

import gzip
import zipfile
import zlib
from pathlib import Path

import numpy as np

from stjax.errors import UserError

EMBEDDED = Path(__file__).with_name("digits.npz")
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz"
_TRAIN_IDX = "train-images-idx3-ubyte"
_TEST_IDX = "t10k-images-idx3-ubyte"
# What numpy, gzip and zipfile raise for a cut or damaged file.
_DAMAGE = (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error)


def read_idx(path: str | Path) -> np.ndarray:
    """Images of an idx file, gzip-compressed or not (LeCun's MNIST format).

    Args:
      path: the file: magic number 0x00000803, three big-endian sizes, uint8 pixels.

    Returns:
      [N, H, W] uint8.

    Raises:
      UserError: if the file is cut short, damaged or of another kind.
    """
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except _DAMAGE as error:
        raise UserError(f"{path}: cannot be read ({error}); get it again") from None
    if len(data) < 16 or data[:4] != b"\0\0\x08\x03":
        raise UserError(f"{path}: not an idx file of images; expected e.g. {MNIST_URL}")
    n, h, w = np.frombuffer(data, ">u4", 3, offset=4).tolist()
    if len(data) != 16 + n * h * w:
        raise UserError(
            f"{path}: has {len(data) - 16} bytes of pixels, its header promises "
            f"{n}x{h}x{w}; the file is truncated or damaged, get it again"
        )
    return np.frombuffer(data, np.uint8, offset=16).reshape(n, h, w)


def find_idx(folder: Path, stem: str) -> Path | None:
    """The idx file of that stem in a folder, compressed or not; None if absent."""
    for name in (stem + ".gz", stem, stem.replace("-idx", ".idx")):
        if (folder / name).is_file():
            return folder / name
    return None


def resize_area(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes square images by area averaging.

    Args:
      images: [N, n, n] uint8.
      size: the new side; each new pixel is the mean over the area that it covers.

    Returns:
      [N, size, size] uint8, rounded to nearest.
    """
    n = images.shape[1]
    if n == size:
        return images
    edges = np.arange(size + 1) * (n / size)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(n)[None]
    overlap = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    weights = (np.clip(overlap, 0, None) * (size / n)).astype(np.float32)
    # In pieces: 60,000 digits in float32 would take 190 MB.
    pieces = [
        np.rint(weights @ images[i : i + 4096].astype(np.float32) @ weights.T)
        for i in range(0, len(images), 4096)
    ]
    return np.concatenate(pieces).astype(np.uint8)


def load_digits(
    split: str, path: str | None = None, digit_size: int = 28
) -> np.ndarray:
    """Digits of one split; no digit is in two splits.

    Args:
      split: ``"train"``, ``"validation"`` or ``"test"``.
      path: None for the 2,000 real MNIST digits that ship with the package; a
        Keras-style ``.npz`` (``x_train``, ``x_test``); an idx file, gzipped or not,
        or a folder with MNIST's two image files; ``"tfds"`` or ``"tfds:FOLDER"`` for
        TensorFlow Datasets' ``mnist`` prepared as array_record.
      digit_size: side of the digits; others than 28 by area averaging.

    Returns:
      [N, digit_size, digit_size] uint8. With a test file, the last sixth of the
      training file is ``validation``; without one, 70/15/15 % in the file's order.

    Raises:
      UserError: for a file that is missing, damaged or of another kind.
    """
    train, test = _read(path)
    if test is None:
        n = len(train)
        bounds = {
            "train": (0, n * 70 // 100),
            "validation": (n * 70 // 100, n * 85 // 100),
            "test": (n * 85 // 100, n),
        }
        start, stop = bounds[split]
        digits = train[start:stop]
    elif split == "test":
        digits = test
    else:
        cut = len(train) * 5 // 6
        digits = train[:cut] if split == "train" else train[cut:]
    if not len(digits):
        raise UserError(f"{path}: {len(train)} digits are too few to split; need 7")
    return resize_area(digits, digit_size)


def _read(path: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """(training images, test images or None if the file has only one set)."""
    if path is not None and (path == "tfds" or path.startswith("tfds:")):
        return _read_tfds(path[5:] or None)
    file = EMBEDDED if path is None else Path(path).expanduser()
    if file.is_dir():
        train, test = find_idx(file, _TRAIN_IDX), find_idx(file, _TEST_IDX)
        if train is None:
            raise UserError(
                f"{file}: no {_TRAIN_IDX}.gz there; get it from {MNIST_URL}"
            )
        return read_idx(train), None if test is None else read_idx(test)
    if not file.is_file():
        raise UserError(
            f"{file}: no such file; data.path is an mnist.npz, an idx file or its "
            f"folder ({MNIST_URL}), 'tfds', or unset for the digits that ship"
        )
    if file.suffix != ".npz":
        return read_idx(file), None
    try:
        # numpy leaves a file that it opened itself open when it is damaged.
        with file.open("rb") as data, np.load(data, allow_pickle=False) as z:
            if "images" in z:
                return _checked(file, z["images"]), None
            return _checked(file, z["x_train"]), _checked(file, z["x_test"])
    except _DAMAGE as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{file}: cannot be read as mnist.npz ({error}); expected arrays x_train "
            "and x_test"
        ) from None


def _checked(file: Path, images: np.ndarray) -> np.ndarray:
    square = images.ndim == 3 and images.shape[1] == images.shape[2]
    if images.dtype != np.uint8 or not square:
        raise UserError(
            f"{file}: images are {images.dtype} {images.shape}; expected "
            "uint8 [N, n, n]"
        )
    return images


def _read_tfds(folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    """TFDS `mnist` through its random-access reader, which needs no TensorFlow."""
    import tensorflow_datasets as tfds

    try:
        sets = [tfds.data_source("mnist", split=s, data_dir=folder, download=False)
                for s in ("train", "test")]  # fmt: skip
        images = [np.stack([item["image"][..., 0] for item in s]) for s in sets]
    except Exception as error:  # TFDS has no common class for what goes wrong here
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"TFDS mnist is not prepared as array_record in {folder or 'its default'} "
            f"folder ({first}); run tfds.builder('mnist', "
            "file_format='array_record').download_and_prepare()"
        ) from None
    return images[0], images[1]
