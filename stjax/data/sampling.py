"""Which frames of a video a clip takes: the index arithmetic of the official projects.

Two families. A *dense* clip is a short stretch of the video at a fixed rate; a
*uniform* one (TSN) takes a frame from each of T equal parts of the whole video. All
functions are pure, count frames from 0, and repeat the border frames of a video that is
too short, as the originals do.

- ``dense``: UniFormer on Kinetics, UCF101 and HMDB51. The clip is ``step * frames``
  long and the frames are spread over it from its first to its last, so that two of them
  are (clip - 1) / (frames - 1) apart: 4.2, not 4, for 16x4.
- ``slowfast``: PySlowFast on Kinetics. The same, where the clip is counted in frames of
  a video of 30 a second, and other places in testing.
- ``strided``: exactly every ``step``-th frame: the non-local networks' paper ("64
  consecutive frames, every other one"), and PySlowFast on Charades.
- ``uniform``: UniFormer on Something-Something.
- ``slowfast_uniform``: PySlowFast on Something-Something; testing has one view.
"""

import dataclasses
import math

import numpy as np

from stjax.errors import UserError, unknown

SAMPLINGS = ("dense", "slowfast", "strided", "uniform", "slowfast_uniform")
SLOWFAST_FPS = 30.0


def spread(start: float, clip: float, frames: int, length: int) -> np.ndarray:
    """``frames`` indices from ``start`` to ``start + clip - 1``, rounded down.

    In float32 and from both ends, as torch.linspace computes: where a place is a whole
    number, the last bit decides which frame it is.
    """
    start, end = np.float32(start), np.float32(start + clip - 1)
    step = (end - start) / np.float32(max(1, frames - 1))
    # Its multiply-add rounds once: float64 holds the exact product.
    k, step = np.arange(frames), float(step)
    low, high = float(start) + step * k, float(end) - step * (frames - 1 - k)
    places = np.where(k < max(1, frames // 2), low, high).astype(np.float32)
    return np.clip(places, 0, length - 1).astype(np.int64)


def offset_start(room: float, view: int, views: int) -> float:
    """UniFormer's first frame of a test view (USE_OFFSET_SAMPLING).

    Args:
      room: the length of the video less that of the clip, at least 0.
      view: which one.
      views: how many there are.
    """
    if views == 1:
        return math.floor(room / 2)
    return view * math.floor(room / (views - 1))


def even_start(room: float, view: int, views: int) -> float:
    """PySlowFast's first frame of a test view: the last one stays away from the end."""
    return room * view / views


def stride(start: int, step: float, frames: int, length: int) -> np.ndarray:
    """Every ``step``-th frame from ``start`` on."""
    places = np.floor(start + np.arange(frames) * step)
    return np.clip(places, 0, length - 1).astype(np.int64)


def parts(length: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last frame of ``frames`` equal parts; a border belongs to both.

    Halves are rounded to even, as by Python and numpy.
    """
    size = (length - 1) / frames
    borders = np.rint(size * np.arange(frames + 1)).astype(np.int64)
    return borders[:-1], borders[1:]


def uniform_train(length: int, frames: int, rng: np.random.Generator) -> np.ndarray:
    """A random frame of each part."""
    first, last = parts(length, frames)
    return rng.integers(first, last, endpoint=True)


def uniform_test(length: int, frames: int, view: int, views: int) -> np.ndarray:
    """UniFormer's frames of a test view: the same place in every part."""
    first, _ = parts(length, frames)
    return first + int((length - 1) / frames / (views + 1) * (view + 1))


def uniform_middle(length: int, frames: int) -> np.ndarray:
    """PySlowFast's test frames: the middle of every part."""
    first, last = parts(length, frames)
    return (first + last) // 2


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the frames of a clip are chosen.

    Attributes:
      name: one of `SAMPLINGS`.
      frames: of a clip, T.
      step: between two frames; without meaning for uniform sampling.
      fps: the frames a second in which ``step`` counts; None: those of each video, but
        30 with ``slowfast``. A video whose own rate is not known counts as it is.
    """

    name: str
    frames: int
    step: int = 1
    fps: float | None = None

    def __post_init__(self):
        if self.name not in SAMPLINGS:
            raise unknown("value of data.sampling", self.name, SAMPLINGS)
        for field, value in (("t_in", self.frames), ("frame_step", self.step)):
            if value < 1:
                raise UserError(f"data.{field}={value}: expected at least 1")
        if self.fps is not None and self.fps <= 0:
            raise UserError(f"data.fps={self.fps}: expected more than 0")

    def _step(self, rate: float | None) -> float:
        """``step`` in frames of a video of ``rate`` a second."""
        fps = self.fps
        if fps is None and self.name == "slowfast":
            fps = SLOWFAST_FPS
        return self.step * rate / fps if fps and rate else self.step

    def stretch(self, rate: float | None) -> float:
        """Length of a dense clip in frames of a video of ``rate`` a second."""
        step = self._step(rate)
        if self.name == "strided":
            return math.floor((self.frames - 1) * step) + 1
        return max(1.0, step * self.frames)

    def train(
        self, length: int, rate: float | None, rng: np.random.Generator
    ) -> np.ndarray:
        """[T] indices of a random clip.

        Args:
          length: frames of the video.
          rate: its frames a second, None if that is not known.
          rng: the only source of randomness.
        """
        if self.name in ("uniform", "slowfast_uniform"):
            return uniform_train(length, self.frames, rng)
        clip = self.stretch(rate)
        if self.name == "strided":
            # A video that is too short may be padded at both ends.
            low, high = sorted((0, length - clip))
            start = int(rng.integers(low, high, endpoint=True))
            return stride(start, self._step(rate), self.frames, length)
        start = rng.uniform(0, max(length - clip, 0))
        return spread(start, clip, self.frames, length)

    def test(self, length: int, rate: float | None, views: int) -> np.ndarray:
        """[views, T] indices of the test views."""
        places = [self._test(length, rate, k, views) for k in range(views)]
        return np.stack(places)

    def _test(self, length: int, rate: float | None, view: int, views: int):
        n = self.frames
        if self.name == "uniform":
            return uniform_test(length, n, view, views)
        if self.name == "slowfast_uniform":
            return uniform_middle(length, n)
        clip = self.stretch(rate)
        room = max(length - clip, 0)
        if self.name == "dense":
            return spread(offset_start(room, view, views), clip, n, length)
        if self.name == "slowfast":
            return spread(even_start(room, view, views), clip, n, length)
        start = round(room / (views - 1) * view) if views > 1 else int(room) // 2
        return stride(start, self._step(rate), n, length)
