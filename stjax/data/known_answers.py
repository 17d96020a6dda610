"""Clips of tasks whose answer is known: what a space-time network can learn of them.

Three families of small grey clips on a torus, circular in time and in space, so that
no border tells where or when something happens:

- *appearance*: a shape jumps about; the label is the shape. One frame is enough.
- *order ladder*: two events at one place, some frames apart; the label is which of them
  comes first. A network with n temporal layers of 3 frames sees windows of 2n + 1, and
  what it can know at most follows from counting (`ladder_accuracy`).
- *shape and drift*: a shape drifts around the torus once; the label is shape times
  direction. The frames of a clip, as a set, are the same for both directions, so half
  of the label needs order and the other half does not.

They serve to test a search for space-time strategies: a good one has to find where time
is needed and where it is not.
"""

from collections import Counter

import numpy as np

GAPS = (2, 4, 6)
LADDER_FRAMES = 16
LADDER_CLASSES = ("bright_first", "dark_first")
SHAPES = {
    "plus": ("010", "111", "010"),
    "cross": ("101", "010", "101"),
    "corner": ("111", "100", "100"),
    "bars": ("111", "000", "110"),
}
"""Five pixels each: the mean brightness says nothing."""
DRIFT_CLASSES = ("plus_left", "plus_right", "cross_left", "cross_right")

_GREY, _CONTRAST = 0.5, 0.35  # of the background, and what a shape adds


def noise(rng: np.random.Generator, frames: int, size: int, sigma: float) -> np.ndarray:
    """Grey frames [frames, size, size] float32 with independent Gaussian noise."""
    clip = rng.standard_normal((frames, size, size), np.float32)
    clip *= sigma
    clip += np.float32(_GREY)
    return clip


def to_uint8(clip: np.ndarray) -> np.ndarray:
    """Values in [0, 1], others cut, as [T, H, W, 1] uint8."""
    return np.rint(np.clip(clip, 0, 1) * 255).astype(np.uint8)[..., None]


def stamp(frame: np.ndarray, pattern: np.ndarray, row: int, column: int) -> None:
    """Adds a pattern in place; what sticks out comes back on the other side."""
    size = frame.shape[0]
    rows = (row + np.arange(pattern.shape[0])) % size
    columns = (column + np.arange(pattern.shape[1])) % size
    frame[np.ix_(rows, columns)] += pattern


def pattern(name: str) -> np.ndarray:
    """A shape as [3, 3] float32, what it adds to the background."""
    rows = [[float(cell) for cell in row] for row in SHAPES[name]]
    return np.float32(_CONTRAST) * np.float32(rows)


def order_ladder(
    rng: np.random.Generator, label: int, size: int = 12, sigma: float = 0.1
) -> np.ndarray:
    """A bright and a dark square of 3x3, in one place, 2, 4 or 6 frames apart.

    Args:
      rng: the only source of randomness.
      label: 0: bright first, 1: dark first.
      size: rows and columns.
      sigma: of the noise; frames are 0.5, squares 0.35 brighter or darker.

    Returns:
      [16, size, size, 1] uint8; time is a circle.
    """
    clip = noise(rng, LADDER_FRAMES, size, sigma)
    start = rng.integers(LADDER_FRAMES)
    second = (start + GAPS[rng.integers(len(GAPS))]) % LADDER_FRAMES
    row, column = rng.integers(size, size=2)
    bright = np.full((3, 3), _CONTRAST, np.float32)
    events = (bright, -bright) if label == 0 else (-bright, bright)
    for t, event in zip((start, second), events, strict=True):
        stamp(clip[t], event, row, column)
    return to_uint8(clip)


def appearance(
    rng: np.random.Generator,
    label: int,
    frames: int = 8,
    size: int = 16,
    sigma: float = 0.1,
) -> np.ndarray:
    """A shape at a random place, another one in every frame.

    Args:
      rng: the only source of randomness.
      label: index in `SHAPES`.
      frames: of the clip.
      size: rows and columns.
      sigma: of the noise.

    Returns:
      [frames, size, size, 1] uint8.
    """
    clip = noise(rng, frames, size, sigma)
    shape = pattern(tuple(SHAPES)[label])
    for frame, (row, column) in zip(
        clip, rng.integers(size, size=(frames, 2)), strict=True
    ):
        stamp(frame, shape, row, column)
    return to_uint8(clip)


def shape_and_drift(
    rng: np.random.Generator,
    label: int,
    frames: int = 8,
    size: int = 16,
    sigma: float = 0.1,
    shuffle: bool = False,
) -> np.ndarray:
    """A shape that drifts to the left or right, around the torus exactly once.

    Args:
      rng: the only source of randomness.
      label: index in `DRIFT_CLASSES`.
      frames: of the clip; they divide `size`.
      size: rows and columns.
      sigma: of the noise.
      shuffle: the frames come in random order: no network can tell the direction.

    Returns:
      [frames, size, size, 1] uint8.
    """
    clip = noise(rng, frames, size, sigma)
    shape, direction = DRIFT_CLASSES[label].split("_")
    step = size // frames * (1 if direction == "right" else -1)
    row, column = rng.integers(size, size=2)
    for t, frame in enumerate(clip):
        stamp(frame, pattern(shape), row, column + t * step)
    return to_uint8(rng.permutation(clip) if shuffle else clip)


def ladder_accuracy(layers: int) -> float:
    """Largest accuracy on `order_ladder` of a network with so many temporal layers.

    By enumeration. A network that pools over time, each of whose values sees 2n + 1
    frames (n = `layers`), knows the multiset of the windows of the circle, no more. For
    every gap and start it is compared between the labels: gaps whose multisets are the
    same for both leave a coin, others tell.

    Args:
      layers: temporal layers of 3 frames.

    Returns:
      1/2, 2/3, 5/6 and 1 for 0, 1, 2 and 3 or more.
    """
    total = 0.0
    for gap in GAPS:
        first, second = (
            {_windows(start, gap, label, layers) for start in range(LADDER_FRAMES)}
            for label in (0, 1)
        )
        shared = len(first & second) / len(first | second)
        total += 1 - shared / 2
    return total / len(GAPS)


def _windows(start: int, gap: int, label: int, layers: int) -> frozenset:
    """The multiset of the windows of a clip, in symbols."""
    circle = [" "] * LADDER_FRAMES
    circle[start], circle[(start + gap) % LADDER_FRAMES] = "AB" if label == 0 else "BA"
    places = range(LADDER_FRAMES)
    window = range(-layers, layers + 1)
    seen = Counter(
        "".join(circle[(t + d) % LADDER_FRAMES] for d in window) for t in places
    )
    return frozenset(seen.items())
