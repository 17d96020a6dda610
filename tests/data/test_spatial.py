"""Windows of clips: where they lie, what they show, how they are resized."""

import pickle

import numpy as np
import pytest

from stjax.data import spatial
from stjax.data.frames import resize
from stjax.data.spatial import TrainTransform, create_transform
from stjax.errors import UserError


def noise(t=3, height=40, width=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (t, height, width, 3), np.uint8)


def coordinates(height=200, width=250, t=2):
    """Frames that hold their own row, column and 0."""
    y, x = np.mgrid[:height, :width]
    frame = np.stack([y, x, 0 * x], -1).astype(np.uint8)
    return np.repeat(frame[None], t, 0)


def assert_close(got, want):
    """The float values ``want``, rounded to whole numbers."""
    assert got.dtype == np.uint8 and want.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=0.501)


def in_floats(frames, size):
    return resize(frames.astype(np.float32), size, antialias=False)


def test_view_of_a_window_between_pixels_by_hand():
    frames = np.arange(0, 80, 10, dtype=np.uint8).reshape(1, 1, 8, 1)
    # Four points of a window 2 wide from 1: at 1.25, 1.75, 2.25, 2.75 from the left
    # border, that is 0.75 ... 2.25 in pixel centres.
    got = spatial.view(frames, (0, 1, 1, 2), 4, beyond=True)
    np.testing.assert_array_equal(got[0, 0, :, 0], [8, 13, 18, 23])
    inside = spatial.view(frames, (0, 1, 1, 2), 4, beyond=False)
    np.testing.assert_array_equal(inside[0, 0, :, 0], [10, 13, 18, 20])


@pytest.mark.parametrize("window", [(3, 5, 30, 40), (0, 0, 40, 60), (10, 20, 7, 9)])
def test_a_window_cut_then_resized(window):
    frames = noise()
    top, left, height, width = window
    cut = frames[:, top : top + height, left : left + width]
    got = spatial.view(frames, window, 16, beyond=False)
    assert_close(got, in_floats(cut, (16, 16)))
    mirrored = spatial.view(frames, window, 16, beyond=False, flip=True)
    np.testing.assert_array_equal(mirrored, got[:, :, ::-1])


def test_resizing_equals_torch():
    torch = pytest.importorskip("torch")
    frames = noise()
    x = torch.from_numpy(frames[:, 4:37, 8:51]).permute(0, 3, 1, 2).float()
    want = torch.nn.functional.interpolate(
        x, size=(24, 24), mode="bilinear", align_corners=False
    )
    got = spatial.view(frames, (4, 8, 33, 43), 24, beyond=False)
    assert_close(got, want.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (40, 40), (90, 33)])
def test_three_crops_lie_along_the_longer_side(height, width):
    frames, size = noise(2, height, width), 24
    # PySlowFast: scale the shorter side, floor the longer one, cut.
    short = min(height, width)
    scaled = tuple(
        size if n == short else int(n / short * size) for n in (height, width)
    )
    whole = in_floats(frames, scaled)
    crops = spatial.test_crops(frames, size, 3)
    assert crops.shape == (3, 2, size, size, 3)
    room = max(scaled) - size
    for crop, start in zip(crops, (0, -(-room // 2), room), strict=True):
        if height > width:
            want = whole[:, start : start + size]
        else:
            want = whole[:, :, start : start + size]
        assert_close(crop, want)
    np.testing.assert_array_equal(spatial.test_crops(frames, size, 1)[0], crops[1])


def test_frames_of_the_right_size_are_left_alone():
    frames = noise(2, 24, 24)
    np.testing.assert_array_equal(spatial.test_crops(frames, 24, 1)[0], frames)
    wide = noise(2, 24, 31)  # the middle starts at ceil(7 / 2)
    np.testing.assert_array_equal(
        spatial.test_crops(wide, 24, 3),
        [wide[:, :, i : i + 24] for i in (0, 4, 7)],
    )


def test_centre_of_a_larger_side():
    wide = noise(2, 32, 50)
    got = spatial.test_crops(wide, 24, 1, short_side=32)
    np.testing.assert_array_equal(got[0], wide[:, 4:28, 13:37])
    with pytest.raises(UserError, match="smaller than crops"):
        spatial.test_crops(wide, 24, 1, short_side=16)
    with pytest.raises(UserError, match=r"expected 1 \(centre\) or 3"):
        spatial.test_crops(wide, 24, 10)


def test_random_areas_keep_to_their_ranges():
    rng = np.random.default_rng(0)
    shape, scale, aspect = (200, 250), (0.08, 1.0), (3 / 4, 4 / 3)
    windows = np.array(
        [spatial.random_area(shape, scale, aspect, rng) for _ in range(2000)]
    )
    top, left, h, w = windows.T
    assert (top >= 0).all() and (top + h <= 200).all() and (top + h == 200).any()
    assert (left >= 0).all() and (left + w <= 250).all() and (left == 0).any()
    assert (h * w / 50000 > 0.075).all() and (h * w / 50000 <= 1).all()
    assert (w / h > 0.73).all() and (w / h < 1.37).all()
    # log-uniform: the median of the aspect is 1 where all windows fit
    small = [
        spatial.random_area(shape, (0.1, 0.2), aspect, rng)[2:] for _ in range(2000)
    ]
    small = np.array(small)
    share = small.prod(1) / 50000
    assert np.mean(small[:, 1] < small[:, 0]) == pytest.approx(0.5, abs=0.04)
    assert share.mean() == pytest.approx(0.15, abs=0.003)


def test_what_never_fits_falls_back_to_the_centre():
    rng = np.random.default_rng(0)
    area = spatial.random_area((20, 200), (1.0, 1.0), (3 / 4, 4 / 3), rng)
    assert area == (0, (200 - 27) // 2, 20, 27)
    area = spatial.random_area((200, 21), (1.0, 1.0), (3 / 4, 4 / 3), rng)
    assert area == ((200 - 28) // 2, 0, 28, 21)
    whole = spatial.random_area((20, 20), (1.0, 1.0), (0.9, 0.9), rng)
    assert whole == (0, 1, 20, 18)


def window_of(clip, side):
    """Edges of the window of `coordinates`, from the first and last points."""
    y, x = clip[0, :, :, 0].astype(float), clip[0, :, :, 1].astype(float)
    step = (y[-1, 0] - y[0, 0]) / (side - 1), (x[0, -1] - x[0, 0]) / (side - 1)
    return y[0, 0], x[0, 0], step[0] * side, step[1] * side


def test_default_transform_shows_random_windows_half_of_them_mirrored():
    transform, rng = TrainTransform(32), np.random.default_rng(0)
    frames = coordinates()
    flips, heights = [], []
    for _ in range(200):
        clip = transform(frames, rng)
        assert clip.shape == (2, 32, 32, 3) and clip.dtype == np.uint8
        np.testing.assert_array_equal(clip[0], clip[1])
        _, _, height, width = window_of(clip, 32)
        flips.append(width < 0)
        heights.append(height)
    assert 0.35 < np.mean(flips) < 0.65
    assert min(heights) < 80 and max(heights) > 170
    for _ in range(20):
        clip = TrainTransform(32, flip=False)(frames, rng)
        assert window_of(clip, 32)[3] > 0


def test_jitter_scales_the_shorter_side_and_crops():
    frames = coordinates(200, 250)
    transform = TrainTransform(40, jitter=(50, 100), flip=False)
    rng = np.random.default_rng(0)
    windows = np.array([window_of(transform(frames, rng), 40) for _ in range(300)])
    # A crop of 40 shows 40 / side of the shorter side: 200 * 40 / [100, 50].
    sides = 200 * 40 / windows[:, 2]
    assert 49 <= sides.min() < 52 and 98 < sides.max() <= 102
    assert sides.mean() == pytest.approx(75, abs=2.5)
    assert windows[:, 0].min() < 4 and windows[:, 1].max() > 120
    np.testing.assert_allclose(windows[:, 2], windows[:, 3], atol=5)
    # 1 / side uniform: E[side] = ln 2 / (1/50 - 1/100) = 69.3
    transform = TrainTransform(40, jitter=(50, 100), inverse_jitter=True, flip=False)
    windows = [window_of(transform(frames, rng), 40) for _ in range(300)]
    sides = 200 * 40 / np.array(windows)[:, 2]
    assert sides.mean() == pytest.approx(100 * np.log(2), abs=2.5)


def test_jitter_equals_resize_then_crop():
    frames = noise(2, 40, 60)
    transform = TrainTransform(24, jitter=(32, 32), flip=False)
    whole = in_floats(frames, (32, 48))
    crop = transform(frames, np.random.default_rng(5))
    places = [
        (y, x)
        for y in range(9)
        for x in range(25)
        if np.abs(crop - whole[:, y : y + 24, x : x + 24]).max() <= 0.501
    ]
    assert len(places) == 1


def test_corners_are_five_places_of_two_sizes():
    frames = coordinates(200, 250)
    transform = TrainTransform(100, corners=(1.0, 0.8), flip=False)
    rng = np.random.default_rng(0)
    windows = {
        tuple(np.round(window_of(transform(frames, rng), 100), -1)) for _ in range(200)
    }
    whole = {(0, left, 200, 200) for left in (0, 50, 20)}
    part = {(0, 0), (0, 90), (40, 0), (40, 90), (20, 40)}
    part = {(*corner, 160, 160) for corner in part}
    assert {w[2:] for w in windows} == {w[2:] for w in whole | part}
    assert len(windows) == 8


def test_same_generator_same_view_and_it_pickles():
    frames = noise(3, 48, 64)
    transform = TrainTransform(24, rand_augment="rand-m7-n4-mstd0.5-inc1")
    again = pickle.loads(pickle.dumps(transform))
    seen = set()
    for seed in range(5):
        a = transform(frames, np.random.default_rng(seed))
        np.testing.assert_array_equal(a, again(frames, np.random.default_rng(seed)))
        seen.add(a.tobytes())
    assert len(seen) == 5


def test_mistakes_are_named():
    with pytest.raises(UserError, match="did you mean 'jitter'"):
        create_transform(224, jiter=(256, 320))
    assert create_transform(224, jitter=None) == TrainTransform(224)
    with pytest.raises(UserError, match="at least the crop, 224"):
        TrainTransform(224, jitter=(200, 320))
    with pytest.raises(UserError, match="flip='none': expected true or false"):
        TrainTransform(224, flip="none")
    with pytest.raises(UserError, match="not both"):
        TrainTransform(224, jitter=(256, 320), corners=(1.0,))
    with pytest.raises(UserError, match=r"expected \(smallest, largest\)"):
        TrainTransform(224, scale=(1.0, 0.08))
    with pytest.raises(UserError, match="at most 1"):
        TrainTransform(224, scale=(0.5, 1.5))
    with pytest.raises(UserError, match="rand_augment='auto'"):
        TrainTransform(224, rand_augment="auto")
