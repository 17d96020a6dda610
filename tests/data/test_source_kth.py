"""KTH on miniature folders of jpgs, against the published rule as plain code."""

import numpy as np
import pytest
from PIL import Image

from stjax.data.sources import open_source
from stjax.data.sources.kth import ACTIONS
from stjax.errors import UserError

RNG = np.random.default_rng(0)
# Frame numbers of each clip: runs with holes between them, as in the real data.
NUMBERS = [*range(1, 14), *range(20, 27), *range(30, 33), *range(50, 58)]
T_IN, T_OUT = 3, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("kth")
    for a, action in enumerate(ACTIONS):
        for person in (1, 2, 15, 16, 17, 25):
            clip = root / action / f"person{person:02d}_{action}_d1_uncomp"
            clip.mkdir(parents=True)
            (clip / "notes.txt").write_text("not an image")
            for n in NUMBERS:
                grey = Image.new("RGB", (160, 120), (4 * n, 10 * person, 40 * a))
                grey.save(clip / f"image_{n:04d}.jpg", quality=95)
    return root


def published(stride, span):
    """First frame numbers of the windows of one clip, going backwards."""
    starts, index = [], len(NUMBERS) - 1
    while index >= span - 1:
        if NUMBERS[index] - NUMBERS[index - span + 1] == span - 1:
            starts.append(NUMBERS[index - span + 1])
            index -= (stride or span) - 1
        index -= 1
    return sorted(starts)


def test_windows_follow_the_published_rule(folder):
    source = open_source("kth", "test", path=folder, t_in=T_IN, t_out=T_OUT)
    got = []
    for k in range(len(source)):
        clip = source.clip(k, RNG)
        video = np.concatenate([clip["input"], clip["target"]])
        assert video.shape == (T_IN + T_OUT, 128, 128, 1)
        numbers = np.rint(video.mean((1, 2, 3)) / 4).astype(int)
        assert (np.diff(numbers) == 1).all()
        got.append(int(numbers[0]))
    expected = [
        start
        for stride in ACTIONS.values()
        for _ in (17, 25)
        for start in published(stride, T_IN + T_OUT)
    ]
    assert got == expected


def test_persons(folder):
    sizes = {
        holdout: [
            len(open_source("kth", s, path=folder, t_in=3, t_out=3, holdout=holdout))
            for s in ("train", "validation", "test")
        ]
        for holdout in (0, 1, 2)
    }
    one = sizes[1][1]
    assert sizes == {
        0: [4 * one, 2 * one, 2 * one],  # the published protocol
        1: [3 * one, one, 2 * one],
        2: [2 * one, 2 * one, 2 * one],
    }


def test_bad_input(folder, tmp_path):
    with pytest.raises(UserError, match="no window of 30 consecutive frames"):
        open_source("kth", path=folder)
    with pytest.raises(UserError, match="boxing does not exist"):
        open_source("kth", path=tmp_path)
