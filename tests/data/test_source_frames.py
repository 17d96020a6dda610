"""Windows, splits and resizing against plain loops, Pillow and torch."""

import numpy as np
import pytest
from PIL import Image

from stjax.data.frames import FrameProcess, resize
from stjax.data.windows import Segment, Windows, borders
from stjax.errors import UserError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(20, 30), (7, 5), (64, 9)])
def test_resize_is_pillows(size):
    frame = RNG.integers(0, 256, (33, 21, 3), np.uint8)
    expected = Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)
    got = resize(frame[None], size)[0]
    # Pillow rounds after rows and after columns, in fixed point.
    assert abs(got.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("size", [(20, 30), (7, 5), (64, 9)])
@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_resize_without_antialias_is_opencvs(size, method):
    torch = pytest.importorskip("torch")
    frame = RNG.random((33, 21, 2)).astype(np.float32)
    mode = {"linear": "bilinear", "cubic": "bicubic"}[method]  # a = -0.75 too
    tensor = torch.from_numpy(frame).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(tensor, size, mode=mode)
    got = resize(frame, size, method, antialias=False)
    np.testing.assert_allclose(got, expected[0].permute(1, 2, 0), atol=1e-5)


def test_resize_keeps_missing_areas_missing():
    frame = np.ones((8, 8, 1), np.float32)
    frame[:4] = np.nan
    got = resize(frame, (4, 4))
    assert np.isnan(got[:2]).all()
    np.testing.assert_allclose(got[2:], 1, atol=1e-6)


def test_fit_crop_and_pad():
    frame = np.ones((1, 10, 20, 3), np.uint8)
    crop = FrameProcess(size=(5, 5), fit="crop")(frame)
    pad = FrameProcess(size=(10, 10), fit="pad")(frame)
    assert crop.shape == (1, 5, 5, 3) and crop.all()
    assert pad.shape == (1, 10, 10, 3)
    assert pad[:, :5].all() and not pad[:, 5:].any()
    part = FrameProcess(crop=(2, 3, 4, 5), channels="grey")(frame)
    assert part.shape == (1, 4, 5, 1)
    with pytest.raises(UserError, match="outside"):
        FrameProcess(crop=(8, 0, 4, 4))(frame)


def test_windows_never_cross_a_border():
    segments = [Segment(0, 0, 7), Segment(1, 5, 6), Segment(2, 10, 15)]
    windows = Windows(segments, 4, [2, 2, 1])
    expected = [(0, 0), (0, 2), (2, 10), (2, 11)]
    assert [windows[k] for k in range(len(windows))] == expected


@pytest.mark.parametrize("n", [3, 4, 10, 97])
def test_borders_cover_everything_and_leave_no_split_empty(n):
    parts = borders(n, (0.8, 0.1, 0.1))
    assert [i for a, b in parts for i in range(a, b)] == list(range(n))
    assert all(b > a for a, b in parts)
