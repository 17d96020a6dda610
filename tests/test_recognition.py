"""Recognisers from labelled clips: loss, evaluation over views, probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import softmax

from stjax.config import base_config
from stjax.data.base import LabelSpec, spec_from_dict
from stjax.errors import UserError
from stjax.evaluation.recognition import Evaluator, aggregate
from stjax.losses import create_loss
from stjax.optim import create_optimizer
from stjax.recognition import Recogniser
from stjax.sharding.mesh import make_mesh
from stjax.tasks.recognition import Objective
from stjax.training.state import create_state, init_variables
from stjax.training.step import TrainStep

SPEC = LabelSpec(2, 4, 4, ("left", "right", "up"), views=3, aggregate="logits")


class Colour(nn.Module):
    """Logits are a matrix times the mean colour."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, *, train=False):
        kernel = self.param("kernel", lambda *_: jnp.eye(3, self.num_classes) * 2)
        return x.mean((1, 2, 3)) @ kernel


class Clips:
    """Random clips; some cannot be read."""

    def __init__(self, count=7, spec=SPEC, broken=()):
        rng = np.random.default_rng(0)
        self.spec, self.broken = spec, broken
        shape = (count, *spec.arrays["input"][0])
        self.x = rng.integers(0, 256, shape, np.uint8)
        self.y = np.eye(3, dtype=np.float32)[rng.integers(0, 3, count)]

    def __len__(self):
        return len(self.x)

    def clip(self, index, rng):
        if index in self.broken:
            raise UserError(f"clip{index}.mp4: not a video")
        return {"input": self.x[index], "target": self.y[index]}


def logits_of(x):
    """What `Colour` gives for raw views [..., T, H, W, C]."""
    return 2 * ((x - 114.75) / 57.375).mean((-4, -3, -2))


def config(**data):
    found = base_config()
    with found.unlocked():
        found.data.update(batch=2, augment={}, **data)
        found.metrics = ("top1", "mean_class_accuracy")
    return found


def test_views_become_one_score():
    logits = np.array([[[2.0, 0.0], [0.0, 1.0]]])
    p = softmax(logits, axis=-1)[0]
    found = {
        how: aggregate(logits, LabelSpec(1, 1, 1, ("a", "b"), aggregate=how))[0]
        for how in ("softmax", "logits", "max")
    }
    np.testing.assert_allclose(found["softmax"], p.mean(0))
    np.testing.assert_allclose(found["logits"], softmax([1.0, 0.5]))
    np.testing.assert_allclose(found["max"], p.max(0))
    several = LabelSpec(1, 1, 1, ("a", "b"), multi_label=True, aggregate="max")
    np.testing.assert_allclose(
        aggregate(logits, several)[0], 1 / (1 + np.exp([-2.0, -1.0]))
    )


@pytest.mark.parametrize("devices", [1, 2])
def test_every_clip_counts_once(devices):
    source = Clips()
    evaluator = Evaluator(config(), Colour(), source, make_mesh(data=devices))
    variables = init_variables(Colour(), SPEC, 0)
    report = evaluator(variables)
    best = logits_of(source.x).mean(1).argmax(-1)
    truth = source.y.argmax(-1)
    assert report["clips"] == 7 and report["skipped"] == 0
    np.testing.assert_allclose(report["metrics"]["top1"], np.mean(best == truth))
    each = [np.mean(best[truth == k] == k) for k in range(3)]
    np.testing.assert_allclose(report["metrics"]["mean_class_accuracy"], np.mean(each))
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (truth, best), 1)
    np.testing.assert_array_equal(report["confusion"], expected)


def test_unreadable_clips_are_left_out_or_an_error():
    source = Clips(broken=(1, 4))
    mesh, variables = make_mesh(data=1), init_variables(Colour(), SPEC, 0)
    with pytest.raises(UserError, match="clip1.mp4"):
        Evaluator(config(), Colour(), source, mesh)(variables)
    found = Evaluator(config(bad="replace"), Colour(), source, mesh)(variables)
    assert (found["clips"], found["skipped"]) == (5, 2)


def test_the_loss_is_that_of_all_views():
    source = Clips(4)
    tx = create_optimizer("sgd", lr=1.0, total_steps=4)
    state = create_state(init_variables(Colour(), SPEC, 0), tx)
    objective = Objective(Colour(), create_loss("cross_entropy"), SPEC)
    batch = {
        "input": source.x,
        "target": source.y,
        "weight": np.array([1, 1, 1, 0], np.float32),
    }
    _, metrics = jax.jit(TrainStep(objective, tx))(state, batch)
    p = softmax(logits_of(source.x[:3]), axis=-1)
    truth = source.y[:3].argmax(-1)
    each = [-np.log(p[i, :, truth[i]]) for i in range(3)]
    np.testing.assert_allclose(metrics["loss"], np.mean(each), rtol=1e-5)


def test_mixing_changes_the_loss_and_stays_finite():
    source, tx = Clips(4), create_optimizer("sgd", lr=1.0, total_steps=4)
    batch = {"input": source.x, "target": source.y, "weight": np.ones(4, np.float32)}
    losses = []
    for fields in ({}, {"mixup": 0.8, "cutmix": 1.0}, {"erase": 1.0}):
        objective = Objective(Colour(), create_loss("cross_entropy"), SPEC, **fields)
        state = create_state(init_variables(Colour(), SPEC, 0), tx)
        _, metrics = jax.jit(TrainStep(objective, tx))(state, batch)
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all() and len(set(losses)) == 3


def test_a_recogniser_takes_integers_and_floats():
    recogniser = Recogniser(Colour(), init_variables(Colour(), SPEC, 0), SPEC)
    views = Clips().x[0]
    found = recogniser(views)
    np.testing.assert_allclose(found, softmax(logits_of(views), axis=-1), atol=1e-6)
    floats = views.astype(np.float32) / 255
    np.testing.assert_allclose(recogniser(floats), found, atol=1e-5)
    one = recogniser.of_views(views)
    np.testing.assert_allclose(one, softmax(logits_of(views).mean(0)), atol=1e-6)
    top = recogniser.top_k(one, 2)
    assert [name for name, _ in top] == [SPEC.classes[i] for i in np.argsort(-one)[:2]]
    assert "left, right, up" in recogniser.describe()


@pytest.mark.parametrize(
    "clip, what",
    [
        (np.zeros((3, 4, 4, 3), np.uint8), "3 frames"),
        (np.zeros((2, 4, 4), np.uint8), "shape"),
        (np.full((2, 4, 4, 3), 7.0), "divide by 255"),
        (np.full((2, 4, 4, 3), np.nan), "NaN"),
        (np.full((2, 4, 4, 3), 300), "0 to 255"),
    ],
)
def test_what_a_recogniser_does_not_take(clip, what):
    recogniser = Recogniser(Colour(), init_variables(Colour(), SPEC, 0), SPEC)
    with pytest.raises(UserError, match=what):
        recogniser(clip)


def test_specs_go_through_json():
    assert spec_from_dict(SPEC.to_dict()) == SPEC
    assert SPEC.fits(LabelSpec(2, 8, 8, SPEC.classes))
    assert not SPEC.fits(LabelSpec(2, 4, 4, ("left", "right")))
