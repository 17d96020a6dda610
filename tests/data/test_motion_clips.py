"""The label of a motion clip is in its order and its pairs, and nowhere else."""

import numpy as np
import pytest

from stjax.data.digits import EMBEDDED
from stjax.data.motion_clips import (
    CLASSES,
    Layout,
    factor_accuracy,
    motion_clip,
    split_digits,
    split_footage,
)
from stjax.data.motion_files import (
    SAMPLE_VIDEOS,
    Counts,
    read_footage,
    write_motion_clips,
)
from stjax.data.sources import open_source
from stjax.data.windows import SPLITS
from stjax.errors import UserError

LAYOUT = Layout()
BLACK = [np.zeros((20, 40, 48, 3), np.uint8)]
# A digit of kind k is a square of one value.
VALUES = (100, 200)
SQUARES = [np.full((3, 16, 16), v, np.uint8) for v in VALUES]


def clip(label, seed=0, footage=BLACK, digits=SQUARES):
    return motion_clip(np.random.default_rng(seed), label, footage, digits, LAYOUT)


@pytest.fixture(scope="module")
def footage():
    return read_footage(SAMPLE_VIDEOS, 96)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "a"
    return write_motion_clips(folder, counts=Counts(8, 4, 4))


@pytest.mark.parametrize("pairing", ["same", "different"])
def test_backward_is_forward_reversed(pairing):
    for seed in range(5):
        forward = clip(f"forward_{pairing}", seed)
        backward = clip(f"backward_{pairing}", seed)
        np.testing.assert_array_equal(backward, forward[::-1])
        assert (forward != backward).any()


def test_forward_goes_right():
    for seed in range(5):
        columns = [
            np.flatnonzero(f.any((0, 2)))[0]
            for f in clip("forward_same", seed)
            if f.any()
        ]
        assert len(columns) == 6 and np.all(np.diff(columns) >= 1)


def test_one_moment_tells_nothing():
    """Either digit is as likely before as after the gap, in all classes."""
    n = 400
    for label in CLASSES:
        kinds = np.array([clip(label, seed).max((1, 2, 3)) for seed in range(n)])
        early, late = kinds[:, 0], kinds[:, -1]
        # Two digits never meet in one of the pairs of frames that C2D pools.
        for frames, kind in ((kinds[:, :4], early), (kinds[:, 4:], late)):
            assert np.all((frames == kind[:, None]) | (frames == 0))
        assert np.all((early == late) == label.endswith("same"))
        for side in (early, late):
            assert set(side) == set(VALUES)
            spread = np.sqrt(n / 4)
            assert abs((side == VALUES[0]).sum() - n / 2) < 4 * spread


def test_pairing_changes_only_the_second_digit(footage):
    parts = split_footage(footage, "train", LAYOUT)
    digits = split_digits("train", LAYOUT)
    for seed in range(5):
        same, other = (
            clip(f"forward_{p}", seed, parts, digits) for p in ("same", "different")
        )
        np.testing.assert_array_equal(same[:5], other[:5])
        assert (same[5:] != other[5:]).any()


def test_footage_runs_either_way():
    """In every class: a film of a clock is shown forward about as often as backward."""
    clock = [
        np.broadcast_to(
            np.arange(0, 80, 4, np.uint8)[:, None, None, None], (20, 40, 48, 3)
        )
    ]
    nothing = [np.zeros((1, 16, 16), np.uint8)] * 2
    for label in CLASSES:
        ways = [
            np.diff(clip(label, seed, clock, nothing)[:, 0, 0, 0].astype(int))
            for seed in range(200)
        ]
        forward = sum((w > 0).all() for w in ways)
        assert forward + sum((w < 0).all() for w in ways) == 200
        assert abs(forward - 100) < 4 * np.sqrt(50)


def test_digits_are_real_and_splits_disjoint():
    with np.load(EMBEDDED) as shipped:
        labels = {
            i.tobytes(): k
            for i, k in zip(shipped["images"], shipped["labels"], strict=True)
        }
    layout = Layout(digit_size=28, digits=(3, 8))
    seen = [split_digits(split, layout) for split in SPLITS]
    for digits in seen:
        for kind, images in zip(layout.digits, digits, strict=True):
            assert len(images) > 10
            assert {labels[i.tobytes()] for i in images} == {kind}
    images = [i.tobytes() for digits in seen for part in digits for i in part]
    assert len(set(images)) == len(images)


def test_footage_of_splits_is_disjoint(footage):
    assert sorted(footage) == ["bikes.mp4", "carphone.mp4"]
    numbered = np.arange(100, dtype=np.uint8)[:, None, None, None]
    video = {"v": np.broadcast_to(numbered, (100, 32, 32, 3))}
    parts = [split_footage(video, split, LAYOUT)[0][:, 0, 0, 0] for split in SPLITS]
    assert [len(p) for p in parts] == [70, 15, 15]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(100))
    with pytest.raises(UserError, match="v: its validation part has 6 frames"):
        split_footage({"v": video["v"][:40]}, "validation", LAYOUT)


def test_files_are_a_function_of_the_seed(written, tmp_path):
    counts = Counts(8, 4, 4)
    again = write_motion_clips(tmp_path / "b", counts=counts)
    other = write_motion_clips(tmp_path / "c", counts=counts, seed=1)
    names = sorted(str(p.relative_to(written)) for p in written.rglob("*.mp4"))
    assert len(names) == 16
    for split, n in zip(SPLITS, (2, 1, 1), strict=True):
        for name in CLASSES:
            assert len(list((written / split / name).iterdir())) == n
    for name in names:
        assert (written / name).read_bytes() == (again / name).read_bytes()
        assert (written / name).read_bytes() != (other / name).read_bytes()


def test_digits_survive_the_codec(written, footage):
    source = open_source(
        "labelled_videos",
        "test",
        path=str(written),
        t_in=8,
        frame_step=1,
        sampling="strided",
        size=32,
    )
    assert source.spec.classes == CLASSES and len(source) == 4
    parts, digits = split_footage(footage, "test", LAYOUT), split_digits("test", LAYOUT)
    for index in range(4):
        found = source.clip(index, np.random.default_rng(0))
        label = CLASSES[int(found["target"].argmax())]
        rng = np.random.default_rng([0, 2, CLASSES.index(label)])
        drawn = motion_clip(rng, label, parts, digits, LAYOUT)
        error = found["input"][0].astype(float) - drawn
        assert np.sqrt((error**2).mean()) < 10
        ink, read = (v.min(-1) > 160 for v in (drawn, found["input"][0]))
        assert (ink & read).sum() > 0.9 * ink.sum() and ink.sum() > 100


def test_factor_accuracy():
    confusion = np.zeros((4, 4))
    confusion[0] = [5, 3, 2, 0]  # backward_different
    confusion[3] = [1, 0, 0, 9]  # forward_same
    found = factor_accuracy(confusion)
    assert found == pytest.approx({"order": (8 + 9) / 20, "same": (7 + 9) / 20})
    assert factor_accuracy(np.ones((4, 4))) == {"order": 0.5, "same": 0.5}


def test_what_a_user_can_get_wrong(written, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        write_motion_clips(written)
    with pytest.raises(UserError, match="no videos there"):
        write_motion_clips(tmp_path / "x", videos=tmp_path)
    (tmp_path / "no.mp4").write_text("text")
    with pytest.raises(UserError, match=r"no\.mp4: cannot be read as a video"):
        write_motion_clips(tmp_path / "x", videos=tmp_path)
    assert not (tmp_path / "x").exists()
    for fields in ({"frames": 3}, {"size": 33}, {"digit_size": 40}):
        with pytest.raises(UserError, match="motion clips need"):
            Layout(**fields)
    for kinds in ((1,), (1, 1), (0, 12)):
        with pytest.raises(UserError, match="two or more"):
            Layout(digits=kinds)
