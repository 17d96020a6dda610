"""Index arithmetic of the official projects; numbers worked out by hand."""

import itertools

import numpy as np
import pytest

from stjax.data.sampling import (
    SAMPLINGS,
    Sampling,
    even_start,
    offset_start,
    parts,
    spread,
    uniform_middle,
    uniform_test,
)
from stjax.errors import UserError


def rng(seed=0):
    return np.random.default_rng(seed)


def test_dense_spreads_frames_over_the_clip():
    # 16x4: 64 frames, 16 places from 0 to 63, 63/15 = 4.2 apart, rounded down.
    expected = [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]
    assert spread(0, 64, 16, 300).tolist() == expected
    # 8x8: 63/7 = 9 exactly.
    assert spread(10, 64, 8, 300).tolist() == [10 + 9 * k for k in range(8)]
    assert spread(5, 4, 1, 300).tolist() == [5]
    # A video of 5 frames: what lies behind its end is the last frame.
    assert spread(0, 8, 8, 5).tolist() == [0, 1, 2, 3, 4, 4, 4, 4]


def test_spread_is_torch_linspace():
    torch = pytest.importorskip("torch")
    draw = rng(1)
    for _ in range(2000):
        frames, step = int(draw.choice([4, 8, 16, 32])), int(draw.choice([1, 2, 4, 8]))
        length = int(draw.integers(5, 400))
        clip = frames * step / 30 * float(draw.choice([24, 25, 29.97, 30, 60]))
        start = max(length - clip, 0) * int(draw.integers(0, 11)) / 10
        places = torch.linspace(start, start + clip - 1, frames)
        expected = torch.clamp(places, 0, length - 1).long().tolist()
        assert spread(start, clip, frames, length).tolist() == expected


def test_dense_train():
    sampling = Sampling("dense", 8, 4)
    firsts = []
    for seed in range(200):
        got = sampling.train(40, 25.0, rng(seed))
        # 32 frames, 31/7 apart: from a real start in [0, 8].
        offsets = got - got[0]
        assert np.all(np.abs(offsets - 31 / 7 * np.arange(8)) < 1) and got[-1] <= 39
        firsts.append(got[0])
    assert min(firsts) == 0 and max(firsts) == 7
    # Shorter than the clip: it starts at 0.
    assert sampling.train(10, None, rng()).tolist() == [0, 4, 8, 9, 9, 9, 9, 9]
    assert sampling.train(1, None, rng()).tolist() == [0] * 8


def test_test_starts():
    # 300 frames, clips of 64: 236 to choose from; 4 views: 236 // 3 = 78 apart.
    assert [offset_start(236, k, 4) for k in range(4)] == [0, 78, 156, 234]
    assert offset_start(237, 0, 1) == 118
    # PySlowFast: 236 k / 4, the last clip does not touch the end.
    assert [even_start(236, k, 4) for k in range(4)] == [0, 59, 118, 177]
    got = Sampling("dense", 8, 8).test(300, None, 4)
    assert got[:, 0].tolist() == [0, 78, 156, 234]
    assert got[3].tolist() == [234 + 9 * k for k in range(8)]
    assert Sampling("dense", 8, 8).test(300, None, 1)[0, 0] == 118
    # Too short: every view is the same.
    assert len(np.unique(Sampling("dense", 8, 8).test(20, None, 3), axis=0)) == 1


def test_slowfast_counts_in_thirtieths_of_a_second():
    # At 30 fps 8x8 is 64 frames; at 15 fps 32: 31/7 apart.
    sampling = Sampling("slowfast", 8, 8)
    assert sampling.test(300, 30.0, 1).tolist() == [[9 * k for k in range(8)]]
    slow = sampling.test(300, 15.0, 1)[0]
    assert slow.tolist() == [31 * k // 7 for k in range(8)]
    assert sampling.test(300, None, 1).tolist() == sampling.test(300, 30.0, 1).tolist()
    # 60 fps and 10 views of a 300 frame video: room for 300 - 128 = 172.
    firsts = sampling.test(300, 60.0, 10)[:, 0]
    assert firsts.tolist() == [172 * k // 10 for k in range(10)]
    # The same rate asked for by hand.
    other = Sampling("slowfast", 8, 8, fps=15).test(300, 15.0, 1)
    assert other.tolist() == [[9 * k for k in range(8)]]


def test_strided_is_exact():
    # 32x2: "64 consecutive frames, every other one"; they span 63.
    sampling = Sampling("strided", 32, 2)
    views = sampling.test(100, None, 3)
    # room 100 - 63 = 37, gaps of 18.5; 18.5 is rounded to even.
    assert views[:, 0].tolist() == [0, 18, 37]
    assert np.all(np.diff(views) == 2) and views[2, -1] == 99
    assert sampling.test(100, None, 1)[0, 0] == 18
    firsts = {int(sampling.train(100, None, rng(k))[0]) for k in range(400)}
    assert firsts == set(range(38))
    # Charades: a video of 4 frames under a clip of 7 begins up to 3 before it.
    starts = set()
    for seed in range(100):
        got = Sampling("strided", 4, 2).train(4, None, rng(seed)).tolist()
        starts.add(tuple(got))
    expected = {
        tuple(min(max(s + 2 * i, 0), 3) for i in range(4)) for s in (-3, -2, -1, 0)
    }
    assert starts == expected


def test_uniform():
    # 41 frames in 8 parts of 5: borders at 0, 5, ..., 40.
    first, last = parts(41, 8)
    assert first.tolist() == list(range(0, 40, 5)) and last[-1] == 40
    # 21 frames in 8 parts of 2.5: halves are rounded to even.
    first, _ = parts(21, 8)
    assert first.tolist() == [0, 2, 5, 8, 10, 12, 15, 18]
    # One view of 3: int(2.5 / 4 * (v + 1)) = 0, 1, 1 behind the borders.
    for view, shift in enumerate((0, 1, 1)):
        assert uniform_test(21, 8, view, 3).tolist() == (first + shift).tolist()
    # One view: int(5 / 2) = 2.
    assert uniform_test(41, 8, 0, 1).tolist() == list(range(2, 42, 5))
    # PySlowFast: (0 + 5) // 2 = 2 as well; with 2.5: (0+2)//2, (2+5)//2, ...
    assert uniform_middle(41, 8).tolist() == list(range(2, 42, 5))
    assert uniform_middle(21, 8).tolist() == [1, 3, 6, 9, 11, 13, 16, 19]


@pytest.mark.parametrize("name", ["uniform", "slowfast_uniform"])
def test_uniform_train_takes_both_borders(name):
    seen = [set() for _ in range(4)]
    for seed in range(300):
        got = Sampling(name, 4).train(13, None, rng(seed)).tolist()
        for k, frame in enumerate(got):
            seen[k].add(frame)
    # Parts of 3 frames, from border to border.
    assert seen == [set(range(3 * k, 3 * k + 4)) for k in range(4)]


@pytest.mark.parametrize("name", SAMPLINGS)
def test_every_sampling_stays_in_the_video(name):
    for length, frames, step in itertools.product((1, 2, 9, 50), (1, 4, 16), (1, 3)):
        sampling = Sampling(name, frames, step)
        test = sampling.test(length, 25.0, 3)
        train = sampling.train(length, 25.0, rng(length))
        assert test.shape == (3, frames) and train.shape == (frames,)
        for got in (*test, train):
            assert got.min() >= 0 and got.max() < length and np.all(np.diff(got) >= 0)


def test_errors():
    with pytest.raises(UserError, match="did you mean 'uniform'"):
        Sampling("unifrom", 8)
    with pytest.raises(UserError, match="data.frame_step=0"):
        Sampling("dense", 8, 0)
    with pytest.raises(UserError, match="data.fps=0"):
        Sampling("dense", 8, 1, fps=0)
