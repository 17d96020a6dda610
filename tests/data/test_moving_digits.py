"""The generator against a slow restatement of the benchmark's rules."""

import math

import numpy as np
import pytest

from stjax.data.digits import load_digits
from stjax.data.moving_digits import bounce, draw, moving_digits, trajectories


class Script:
    """Stands in for a Generator: hands out known draws."""

    def __init__(self, starts, chosen):
        self.starts, self.chosen = starts, chosen

    def random(self, shape):
        assert shape == self.starts.shape
        return self.starts

    def integers(self, high, size):
        assert size == len(self.chosen) and self.chosen.max() < high
        return self.chosen


def plain_clip(starts, chosen, images, frames, height, width, step):
    """The rules of Moving MNIST's training generator, pixel by pixel."""
    size = images.shape[1]
    video = np.zeros((frames, height, width), np.uint8)
    for (y, x, turn), digit in zip(starts, chosen, strict=True):
        vy, vx = math.sin(2 * math.pi * turn), math.cos(2 * math.pi * turn)
        by = bx = 1
        for t in range(frames):
            y += by * vy * step
            x += bx * vx * step
            if x <= 0:
                x, bx = 0.0, -bx
            if x >= 1:
                x, bx = 1.0, -bx
            if y <= 0:
                y, by = 0.0, -by
            if y >= 1:
                y, by = 1.0, -by
            top, left = int((height - size) * y), int((width - size) * x)
            for i in range(size):
                for j in range(size):
                    new = max(video[t, top + i, left + j], images[digit, i, j])
                    video[t, top + i, left + j] = new
    return video


@pytest.mark.parametrize(
    ("height", "width", "size", "digits", "frames", "step"),
    [(64, 64, 28, 2, 20, 0.1), (32, 32, 14, 3, 25, 0.1), (20, 31, 7, 1, 40, 0.35)],
)
def test_clip_follows_the_rules(height, width, size, digits, frames, step):
    rng = np.random.default_rng(size)
    images = rng.integers(0, 256, (9, size, size), dtype=np.uint8)
    starts, chosen = rng.random((digits, 3)), rng.integers(9, size=digits)
    got = moving_digits(
        Script(starts, chosen),
        images,
        frames=frames,
        height=height,
        width=width,
        num_digits=digits,
        step=step,
    )
    expected = plain_clip(starts, chosen, images, frames, height, width, step)
    np.testing.assert_array_equal(got, expected)


def test_position_moves_before_it_is_recorded_and_stops_at_the_wall():
    # In quarters, so that every value is exact.
    assert bounce(0.5, 0.375, 5) == [0.875, 1.0, 0.625, 0.25, 0.0]


def test_speed_is_a_tenth_of_the_canvas():
    # Large canvas: the truncation of offsets is negligible.
    rng = np.random.default_rng(0)
    path = trajectories(rng, 50, 20, (10**6, 10**6)).astype(np.float64)
    inside = ((path > 0) & (path < 10**6)).all(-1)
    moved = np.linalg.norm(np.diff(path, axis=1), axis=-1)[
        inside[:, 1:] & inside[:, :-1]
    ]
    # A step that left a wall or was cut by it is in neither frame of such a pair.
    np.testing.assert_allclose(moved, 10**5, atol=2)


def test_overlap_is_the_maximum():
    images = np.array([[[10, 200]], [[100, 50]]], np.uint8)
    corners = np.zeros((2, 1, 2), np.int32)
    assert draw(images, corners, 1, 2).tolist() == [[[100, 200]]]


def test_randomness_comes_from_the_generator_alone():
    digits = load_digits("train")
    first, again, other = (
        moving_digits(np.random.default_rng(s), digits) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == (20, 64, 64) and first.dtype == np.uint8
    assert (first != other).any()


def test_digit_larger_than_frame():
    with pytest.raises(ValueError, match="28x28 do not fit in frames of 20x64"):
        moving_digits(np.random.default_rng(0), load_digits("test"), height=20)
