"""Human3.6M frames on miniature lists and jpgs."""

import numpy as np
import pytest
from PIL import Image

from stjax.data.sources import open_source
from stjax.errors import UserError

RNG = np.random.default_rng(0)
TRAIN = [
    f"images/S{s}_{action}.{camera}_,1,36"
    for s in (1, 5)
    for action in ("Eating", "Walking")
    for camera in (54138969, 60457274)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("human")
    (root / "images").mkdir()
    (root / "train.txt").write_text("\n".join(TRAIN) + "\n")
    (root / "test.txt").write_text("images/S11_Walking.60457274_,1621,1656\n")
    for line in [*TRAIN, "images/S11_Walking.60457274_,1621,1656"]:
        prefix, start, end = line.split(",")
        for n in range(int(start), int(end) + 1):
            frame = Image.new("RGB", (300, 280), (3 * (n - int(start)), 40, 200))
            frame.save(root / f"{prefix}{n:06d}.jpg", quality=95)
    return root


def test_frames(folder):
    test = open_source("human", "test", path=folder)
    assert len(test) == 1 and test.spec.input_shape == (4, 256, 256, 3)
    clip = test.clip(0, RNG)
    red = np.concatenate([clip["input"], clip["target"]])[:, 100, 100].astype(int)
    expected = [(3 * 5 * k, 40, 200) for k in range(8)]
    assert abs(red - expected).max() <= 2
    swapped = open_source("human", "test", path=folder, bgr=True)
    np.testing.assert_array_equal(
        swapped.clip(0, RNG)["input"], clip["input"][..., ::-1]
    )
    assert swapped.spec.channels == ("blue", "green", "red")


def test_a_scene_is_in_one_split(folder):
    splits = ("train", "validation")
    sources = [open_source("human", s, path=folder, holdout=0.25) for s in splits]
    # Four scenes of two cameras each: the last scene validates.
    assert [len(s) for s in sources] == [6, 2]
    published = [open_source("human", s, path=folder, holdout=0) for s in splits]
    assert [len(s) for s in published] == [8, 1]


def test_bad_input(folder, tmp_path):
    with pytest.raises(UserError, match=r"train\.txt does not exist"):
        open_source("human", path=tmp_path)
    (tmp_path / "train.txt").write_text("images/S1_Eating.1_;1;36\n")
    with pytest.raises(UserError, match="train.txt:1: expected 'prefix,start,end'"):
        open_source("human", path=tmp_path)
    (tmp_path / "train.txt").write_text("images/S1_Eating.1_,1,36\n")
    with pytest.raises(UserError, match="S1_Eating.1_000001.jpg"):
        open_source("human", path=tmp_path, holdout=0)
