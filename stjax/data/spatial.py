"""Where labelled clips are looked at: random windows in training, fixed ones in tests.

Only the pixels that the window shows are resized, once for all frames, bilinearly
without antialiasing, as PySlowFast, UniFormer, mmaction2 and video-nonlocal-net do
(``torch.nn.functional.interpolate``, OpenCV's ``INTER_LINEAR``). These do it on
float frames; here the result is rounded to uint8, the type that goes to the device.
"""

import dataclasses
import functools
import inspect
import math

import numpy as np

from stjax.data.rand_augment import RandAugment
from stjax.errors import UserError, unknown

Window = tuple[float, float, float, float]  # top, left, height, width in pixels
_TRIES = 10


def _taps(
    start: float, length: float, count: int, limits: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels under each of ``count`` points, and the share of the second."""
    low, high = limits
    at = start + (np.arange(count) + 0.5) * (length / count) - 0.5
    at = np.clip(at, low, high - 1)
    first = np.minimum(at.astype(np.int64), high - 1)
    second = np.minimum(first + 1, high - 1)
    return first, second, (at - first).astype(np.float32)


def view(
    frames: np.ndarray, window: Window, size: int, *, beyond: bool, flip: bool = False
) -> np.ndarray:
    """A window of the frames, resized bilinearly.

    Args:
      frames: [T, H, W, C] uint8.
      window: (top, left, height, width), may lie between pixels.
      size: of the result.
      beyond: whether pixels next to the window count at its edge: true for a frame
        that is resized and then cut, false for one that is cut and then resized.
      flip: mirror it.

    Returns:
      [T, size, size, C] uint8.
    """
    top, left, height, width = window
    rows = (0, frames.shape[1]) if beyond else (int(top), int(top + height))
    cols = (0, frames.shape[2]) if beyond else (int(left), int(left + width))
    above, below, y = _taps(top, height, size, rows)
    before, behind, x = _taps(left, width, size, cols)
    if flip:
        before, behind, x = before[::-1], behind[::-1], x[::-1]
    # Columns that no point needs are left out before anything is computed.
    first, last = before.min(), behind.max() + 1
    before, behind = before - first, behind - first
    out = np.empty((len(frames), size, size, frames.shape[3]), np.uint8)
    for frame, result in zip(frames, out, strict=True):  # one at a time: in the cache
        frame = frame[:, first:last].astype(np.float32)
        between = _mix(frame, above, below, y[:, None, None], 0)
        result[:] = _mix(between, before, behind, x[:, None], 1) + 0.5
    return out


def _mix(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, share: np.ndarray, axis
) -> np.ndarray:
    start, end = np.take(values, first, axis), np.take(values, second, axis)
    end -= start
    end *= share
    start += end
    return start


def _short_side(height: int, width: int, short: int) -> tuple[int, int]:
    """(height, width) with this shorter side, as PySlowFast rounds the longer one."""
    if height <= width:
        return short, width if height == short else int(width / height * short)
    return height if width == short else int(height / width * short), short


def _in_source(
    shape: tuple[int, int], scaled: tuple[int, int], corner: tuple[int, int], size: int
) -> Window:
    """The window ``size`` x ``size`` of scaled frames, in pixels of the originals."""
    y, x = shape[0] / scaled[0], shape[1] / scaled[1]
    return corner[0] * y, corner[1] * x, size * y, size * x


def test_crops(
    frames: np.ndarray, size: int, crops: int, short_side: int | None = None
) -> np.ndarray:
    """The fixed windows of a test.

    The shorter side is scaled to ``short_side``. One crop is the centre, three are
    left, centre and right (top, centre and bottom of an upright video).

    The Non-local paper tests on whole frames of shorter side 256, which differ in
    size from video to video; video-nonlocal-net and PySlowFast approximate it by three
    crops of 256, and so do we: such a crop is larger than those of training, so a
    fully convolutional model averages several positions in it.

    Args:
      frames: [T, H, W, 3] uint8.
      size: of a crop.
      crops: 1 or 3.
      short_side: ``size`` by default.

    Returns:
      [crops, T, size, size, 3] uint8.

    Raises:
      UserError: another number of crops, or a shorter side below ``size``.
    """
    short_side = size if short_side is None else short_side
    if crops not in (1, 3):
        raise UserError(
            f"data.crops={crops}: expected 1 (centre) or 3 (along the side)"
        )
    if short_side < size:
        raise UserError(f"short_side={short_side} is smaller than crops of {size}")
    shape = frames.shape[1:3]
    scaled = height, width = _short_side(*shape, short_side)
    middle = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    corners = [middle]
    if crops == 3 and height > width:
        corners = [(0, middle[1]), middle, (height - size, middle[1])]
    elif crops == 3:
        corners = [(middle[0], 0), middle, (middle[0], width - size)]
    windows = [_in_source(shape, scaled, corner, size) for corner in corners]
    return np.stack([view(frames, w, size, beyond=True) for w in windows])


test_crops.__test__ = False  # no test of ours, whatever pytest thinks of its name


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """A random view of a clip, the same for all its frames.

    First RandAugment on the raw frames, then a window, then a mirror. The window is

    * with ``jitter`` a crop of the frames scaled to a random shorter side (the
      Non-local paper, PySlowFast);
    * with ``corners`` a square of one of these shares of the shorter side, in a corner
      or the centre (mmaction2's MultiScaleCrop);
    * otherwise a random area and aspect ratio, brought to the size (Inception's crop:
      UniFormer); after 10 draws that do not fit, the largest one at the centre.

    Attributes:
      size: rows and columns of the result.
      scale: smallest and largest share of the frame's area.
      aspect: smallest and largest width / height.
      jitter: smallest and largest shorter side, such as (256, 320).
      inverse_jitter: draw 1 / side uniformly in place of the side (PySlowFast on
        Charades and Something-Something).
      corners: such as (1.0, 0.8).
      flip: mirror half of the clips; never where left and right are labels
        (Something-Something).
      rand_augment: such as ``"rand-m7-n4-mstd0.5-inc1"``; see
        `stjax.data.rand_augment`.

    Raises:
      UserError: both ``jitter`` and ``corners``, a range that is none, or a shorter
        side below ``size``.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: tuple[int, int] | None = None
    inverse_jitter: bool = False
    corners: tuple[float, ...] | None = None
    flip: bool = True
    rand_augment: str | None = None

    def __post_init__(self):
        for name in ("scale", "aspect", "jitter"):
            value = getattr(self, name)
            if value and not (len(value) == 2 and 0 < value[0] <= value[1]):
                raise UserError(
                    f"data.augment.{name}={value}: expected (smallest, largest)"
                )
        if self.scale[1] > 1 or max(self.corners or (1,)) > 1:
            raise UserError("data.augment: a share of a frame is at most 1")
        if self.flip not in (True, False):
            raise UserError(f"data.augment.flip={self.flip!r}: expected true or false")
        if self.jitter and self.corners:
            raise UserError("data.augment: set jitter or corners, not both")
        if self.jitter and self.jitter[0] < self.size:
            raise UserError(
                f"data.augment.jitter={self.jitter}: the shorter side must be at least"
                f" the crop, {self.size}"
            )
        _ = self._augment  # errors in its text show up here

    @functools.cached_property
    def _augment(self) -> RandAugment | None:
        return RandAugment(self.rand_augment) if self.rand_augment else None

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[T, H, W, 3] uint8 → [T, size, size, 3] uint8."""
        if self._augment:
            frames = self._augment(frames, rng)
        shape = frames.shape[1:3]
        if self.jitter:
            window = self._jitter(shape, rng)
        elif self.corners:
            window = _corner(shape, self.corners, rng)
        else:
            window = random_area(shape, self.scale, self.aspect, rng)
        beyond = bool(self.jitter or self.corners)
        flip = self.flip and rng.random() < 0.5
        return view(frames, window, self.size, beyond=beyond, flip=flip)

    def _jitter(self, shape: tuple[int, int], rng: np.random.Generator) -> Window:
        low, high = self.jitter
        if self.inverse_jitter:
            short = round(1 / rng.uniform(1 / high, 1 / low))
        else:
            short = round(rng.uniform(low, high))
        scaled = _short_side(*shape, short)
        # The last position is among them; PySlowFast's randint leaves it out.
        corner = tuple(int(rng.integers(n - self.size + 1)) for n in scaled)
        return _in_source(shape, scaled, corner, self.size)


def create_transform(size: int, **fields: object) -> TrainTransform:
    """The `TrainTransform` of a config's ``data.augment``; None means the default.

    Raises:
      UserError: an unknown field, with the nearest known one.
    """
    known = inspect.signature(TrainTransform).parameters.keys() - {"size"}
    for field in fields.keys() - known:
        raise unknown("field of data.augment", field, known)
    return TrainTransform(size, **{k: v for k, v in fields.items() if v is not None})


def random_area(
    shape: tuple[int, int],
    scale: tuple[float, float],
    aspect: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int, int, int, int]:
    """A window (top, left, height, width) of random area and aspect ratio.

    As torchvision's ``RandomResizedCrop``: area uniform, aspect log-uniform.
    """
    height, width = shape
    for _ in range(_TRIES):
        area = rng.uniform(*scale) * height * width
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return int(top), int(left), h, w
    h = min(height, round(width / aspect[0]))
    w = min(width, round(height * aspect[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def _corner(
    shape: tuple[int, int], shares: tuple[float, ...], rng: np.random.Generator
) -> Window:
    side = min(shape) * shares[rng.integers(len(shares))]
    y, x = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))[rng.integers(5)]
    return y * (shape[0] - side), x * (shape[1] - side), side, side
