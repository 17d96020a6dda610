"""Digits that drift and bounce: the training clips of Moving MNIST, made on the fly.

The rules are those of the benchmark's training generator (Srivastava et al. 2015 as
OpenSTL codes it), wall behaviour and rounding included:

- a digit's position lives in the unit square and is scaled by the canvas, the frame
  minus the digit; it starts uniformly, in a uniform direction, at constant speed;
- every frame first moves the digit by ``step``, then records it, so the first frame
  is one step in;
- a position that reaches a wall is set *onto* the wall (not reflected through it)
  and that velocity component changes sign;
- the pixel offset is the scaled position truncated to an integer;
- digits overlap by the elementwise maximum, on black.
"""

import math

import numpy as np

STEP = 0.1


def bounce(position: float, velocity: float, frames: int) -> list[float]:
    """One coordinate over time, each value in [0, 1].

    Args:
      position: where it starts; not itself recorded.
      velocity: the change per frame.
      frames: how many values to record.

    Returns:
      ``frames`` positions. Plain Python: for one clip it is ten times faster than
      numpy, and it adds in the order of the rules, so truncation agrees with them.
    """
    path = []
    for _ in range(frames):
        position += velocity
        if position <= 0.0:
            position, velocity = 0.0, -velocity
        elif position >= 1.0:
            position, velocity = 1.0, -velocity
        path.append(position)
    return path


def trajectories(
    rng: np.random.Generator,
    digits: int,
    frames: int,
    canvas: tuple[int, int],
    step: float = STEP,
) -> np.ndarray:
    """Random pixel offsets of moving digits.

    Args:
      rng: the source of start points and directions.
      digits: how many.
      frames: how many.
      canvas: (rows, columns) that the upper left corner can move over: the frame's
        size minus the digit's.
      step: length of the movement per frame, in units of the canvas.

    Returns:
      [digits, frames, 2] integers, (row, column) of each upper left corner.
    """
    start = rng.random((digits, 3)).tolist()
    paths = []
    for y, x, turn in start:
        theta = 2.0 * math.pi * turn
        paths.append(bounce(y, step * math.sin(theta), frames))
        paths.append(bounce(x, step * math.cos(theta), frames))
    unit = np.array(paths, np.float64).reshape(digits, 2, frames).transpose(0, 2, 1)
    return (unit * np.array(canvas, np.float64)).astype(np.int32)


def draw(
    images: np.ndarray, corners: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Draws digits at their offsets, overlapping by the maximum, on black.

    Args:
      images: [digits, h, w] uint8.
      corners: [digits, frames, 2] (row, column) of the upper left corners.
      height: rows of a frame.
      width: columns of a frame.

    Returns:
      [frames, height, width] uint8.
    """
    video = np.zeros((corners.shape[1], height, width), np.uint8)
    h, w = images.shape[1:]
    for k, (image, path) in enumerate(zip(images, corners.tolist(), strict=True)):
        for frame, (y, x) in zip(video, path, strict=True):
            patch = frame[y : y + h, x : x + w]
            if k == 0:  # nothing is below the first digit
                patch[:] = image
            else:
                np.maximum(patch, image, out=patch)
    return video


def moving_digits(
    rng: np.random.Generator,
    images: np.ndarray,
    *,
    frames: int = 20,
    height: int = 64,
    width: int = 64,
    num_digits: int = 2,
    step: float = STEP,
) -> np.ndarray:
    """One clip of digits that drift and bounce.

    Args:
      rng: the only source of randomness.
      images: [N, h, w] uint8 digits to choose from, with replacement.
      frames: length of the clip.
      height: rows of a frame, at least h.
      width: columns of a frame, at least w.
      num_digits: digits in the clip.
      step: movement per frame in units of the canvas; 0.1 in the benchmark, which
        is 3.6 pixels for a 28-pixel digit in a 64-pixel frame.

    Returns:
      [frames, height, width] uint8.
    """
    h, w = images.shape[1:]
    if h > height or w > width:
        raise ValueError(f"digits of {h}x{w} do not fit in frames of {height}x{width}")
    chosen = images[rng.integers(len(images), size=num_digits)]
    canvas = (height - h, width - w)
    corners = trajectories(rng, num_digits, frames, canvas, step)
    return draw(chosen, corners, height, width)
