"""What clips of known answers tell, and what they cannot: the data checks."""

import numpy as np
import pytest

from stjax.data import known_answers as tasks
from stjax.data.sources import SPLITS, open_source
from stjax.errors import UserError

NAMES = ("appearance", "order_ladder", "shape_and_drift")


def clips(name, count=200, **fields):
    """[N, T, H, W] around 0 and labels [N]."""
    source = open_source(name, "validation", **fields)
    some = [source.clip(i, None) for i in range(count)]
    videos = np.stack([clip["input"][0, ..., 0] for clip in some]) / 255.0 - 0.5
    return videos, np.array([clip["target"].argmax() for clip in some])


def responses(videos, shape):
    """Circular correlation with a shape of zero mean, [N, T, H, W]."""
    shape = shape - shape.mean()
    return sum(
        shape[i, j] * np.roll(videos, (-i, -j), (2, 3))
        for i in range(3)
        for j in range(3)
    )


def strongest(videos):
    """The largest response to each shape in each frame, [N, T, K]."""
    shapes = [tasks.pattern(name) for name in tasks.SHAPES]
    return np.stack([responses(videos, s).max((2, 3)) for s in shapes], -1)


def drift(videos):
    """Motion statistic: how much more a frame is like its past shifted to the right."""
    after = np.roll(videos, -1, 1)
    right, left = (np.roll(videos, by, 3) for by in (2, -2))
    return (after * (right - left)).sum((1, 2, 3))


@pytest.mark.parametrize("name", NAMES)
def test_clips_follow_from_seed_split_and_index(name):
    seen = set()
    for split in SPLITS:
        for seed in (0, 1):
            source = open_source(name, split, seed=seed)
            again = open_source(name, split, seed=seed, train_clips=5000)
            for index in (0, 1, 7):
                clip = source.clip(index, np.random.default_rng(index))
                other = again.clip(index, np.random.default_rng(9))
                for key, (shape, dtype) in source.spec.arrays.items():
                    assert clip[key].shape == shape and clip[key].dtype == dtype
                    np.testing.assert_array_equal(clip[key], other[key])
                seen.add(clip["input"].tobytes())
    assert len(seen) == 3 * 2 * 3  # no clip twice


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_balanced(name):
    source = open_source(name)
    count = len(source.spec.classes)
    labels = [source.clip(i, None)["target"] for i in range(3 * count)]
    np.testing.assert_array_equal(np.sum(labels, 0), 3)


@pytest.mark.parametrize(
    ("layers", "accuracy"), [(0, 1 / 2), (1, 2 / 3), (2, 5 / 6), (3, 1), (4, 1)]
)
def test_ladder_by_enumeration(layers, accuracy):
    assert tasks.ladder_accuracy(layers) == pytest.approx(accuracy, abs=1e-12)


def test_ladder_clips_are_what_was_enumerated():
    videos, labels = clips("order_ladder", 600)
    mass = sum(np.roll(videos, (-i, -j), (2, 3)) for i in range(3) for j in range(3))
    size = videos.shape[-1]
    bright, dark = (m.reshape(len(m), 16, -1) for m in (mass, -mass))
    times = np.stack([bright.max(2).argmax(1), dark.max(2).argmax(1)])
    places = [m.max(1).argmax(1) for m in (bright, dark)]
    np.testing.assert_array_equal(*places)  # one place a clip
    assert len(np.unique(places[0])) > 0.9 * size * size
    gap = (times[1] - times[0]) % 16
    np.testing.assert_array_equal(np.where(gap < 8, 0, 1), labels)
    gap = np.minimum(gap, 16 - gap)
    found, counts = np.unique(gap, return_counts=True)
    assert tuple(found) == tasks.GAPS and counts.min() > 150
    assert len(np.unique(times[0])) == 16


def test_shape_of_one_frame_is_enough():
    videos, labels = clips("appearance", 400)
    guess = strongest(videos).mean(1).argmax(-1)
    assert (guess == labels).mean() > 0.99
    brightness = videos.mean((1, 2, 3))
    means = [brightness[labels == k].mean() for k in range(4)]
    assert np.ptp(means) < 3 * brightness.std() / np.sqrt(100)


def test_shapes_jump():
    still, _ = clips("appearance", 400, sigma=0.0)
    same = still[:, 1:] == still[:, :-1]
    assert same.all((2, 3)).mean() < 0.02  # 1 / 256 by chance
    assert abs(drift(still).mean()) < 3 * drift(still).std() / 20


def test_drift_is_half_of_the_label():
    videos, labels = clips("shape_and_drift", 400)
    right = labels % 2 == 1
    assert ((drift(videos) > 0) == right).all()
    shape = strongest(videos).mean(1)[:, :2].argmax(-1)
    assert (shape == labels // 2).mean() > 0.99


def test_frames_as_a_set_say_nothing_of_the_direction():
    rng = (np.random.default_rng(3) for _ in range(2))
    left, right = (
        tasks.shape_and_drift(r, label, sigma=0)
        for r, label in zip(rng, (0, 1), strict=True)
    )
    assert (left != right).any()
    sets = [sorted(frame.tobytes() for frame in clip) for clip in (left, right)]
    assert sets[0] == sets[1] and len(set(sets[0])) == 8


def test_shuffled_frames_hide_the_direction():
    videos, labels = clips("shape_and_drift", 400, shuffle=True)
    accuracy = ((drift(videos) > 0) == (labels % 2 == 1)).mean()
    assert abs(accuracy - 0.5) < 3 * 0.5 / 20
    shape = strongest(videos).mean(1)[:, :2].argmax(-1)
    assert (shape == labels // 2).mean() > 0.99


def test_bad_input():
    with pytest.raises(UserError, match="data.size=15 is no multiple of data.t_in=8"):
        open_source("shape_and_drift", size=15)
    with pytest.raises(UserError, match="data.eval_clips=3: there have to be at least"):
        open_source("appearance", eval_clips=3)
    with pytest.raises(UserError, match="did you mean 'shuffle'"):
        open_source("shape_and_drift", shufle=True)
