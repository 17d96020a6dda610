"""What networks can know of motion clips, exactly, for any weights."""

import jax
import numpy as np
import pytest

from stjax.config import load_config
from stjax.data.motion_clips import (
    CLASSES,
    Layout,
    factor_accuracy,
    motion_clip,
    split_digits,
    split_footage,
)
from stjax.data.motion_files import SAMPLE_VIDEOS, read_footage
from stjax.models.registry import create_model

NETS = {
    name: f"nonlocal/motion_clips:{name},miniature"
    for name in ("c2d", "c2d_nl", "i3d", "i3d_nl")
} | {"uniformer": "uniformer/motion_clips:miniature"}
N = 8


@pytest.fixture(scope="module")
def clips():
    """[N, 8, 32, 32, 3] normalised test clips; every class twice, and their labels."""
    layout = Layout()
    footage = split_footage(read_footage(SAMPLE_VIDEOS, 96), "test", layout)
    digits = split_digits("test", layout)
    found = [
        motion_clip(np.random.default_rng(i), CLASSES[i % 4], footage, digits, layout)
        for i in range(N)
    ]
    labels = np.arange(N) % 4
    return (np.stack(found).astype(np.float32) - 114.75) / 57.375, labels


def scores(name, x):
    """Logits of clips, of their reverses, and the mean of those of pairs of frames.

    With made-up weights: at birth non-local blocks would not do anything.
    """
    config = load_config(NETS[name])
    model = create_model(num_classes=len(CLASSES), **config.model.to_dict())
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    rng = np.random.default_rng(0)

    def make(path, leaf):
        kind = path[-1].key
        noise = rng.standard_normal(leaf.shape, np.float32)
        if kind == "kernel":
            return noise * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return (kind in ("scale", "var")) + 0.1 * noise

    variables = jax.tree_util.tree_map_with_path(make, shapes)

    b, t = x.shape[:2]
    # A pair that lasts as long as a clip: one program for everything.
    pairs = np.tile(x.reshape(b * t // 2, 2, *x.shape[2:]), (1, t // 2, 1, 1, 1))
    everything = np.concatenate([x, x[:, ::-1], pairs])
    run = jax.jit(lambda x: model.apply(variables, x, train=False))
    quick = {"xla_backend_optimization_level": 0}
    logits = run.lower(everything).compile(quick)(everything)
    one, reverse, pairs = np.split(np.asarray(logits), [b, 2 * b])
    return one, reverse, pairs.reshape(b, t // 2, -1).mean(1)


@pytest.fixture(scope="module")
def found(clips):
    return {name: scores(name, clips[0]) for name in NETS}


def gap(a, b):
    """Largest difference, in units of the spread of scores over clips."""
    return np.abs(a - b).max() / a.std(0).max()


@pytest.mark.parametrize("name", ["c2d", "c2d_nl"])
def test_c2d_is_blind_to_order_with_or_without_non_local_blocks(name, found, clips):
    logits, reverse, _ = found[name]
    assert gap(logits, reverse) < 1e-4
    # The reverse of a clip is a clip of the other order: one of the two is wrong.
    labels = clips[1]
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (labels, logits.argmax(-1)), 1)
    np.add.at(confusion, ((labels + 2) % 4, reverse.argmax(-1)), 1)
    assert factor_accuracy(confusion)["order"] == 0.5


@pytest.mark.parametrize("name", ["i3d", "i3d_nl", "uniformer"])
def test_temporal_kernels_and_positions_see_order(name, found):
    logits, reverse, _ = found[name]
    assert gap(logits, reverse) > 0.1


def test_c2d_adds_up_moments_and_non_local_blocks_compare_them(found):
    """So C2D's mean score is the same for "same" and "different"."""
    logits, _, pairs = found["c2d"]
    assert gap(logits, pairs) < 1e-4
    logits, _, pairs = found["c2d_nl"]
    assert gap(logits, pairs) > 0.1
