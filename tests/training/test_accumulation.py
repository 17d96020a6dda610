"""A batch in parts: the gradient of the whole, shares that stay on their device."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.config import load_config
from stjax.data.base import ClipSpec, LabelSpec
from stjax.errors import UserError
from stjax.layers.common import BatchNorm
from stjax.losses import create_loss
from stjax.optim import create_optimizer
from stjax.sharding.mesh import make_mesh, put_batch
from stjax.tasks import prediction, recognition
from stjax.training.accumulation import gradients, split
from stjax.training.setup import bn_groups
from stjax.training.state import create_state, init_variables, state_shardings
from stjax.training.step import TrainStep

CLIPS = ClipSpec(2, 2, 8, 8)
LABELS = LabelSpec(views=2, t_in=2, height=8, width=8, classes=("a", "b", "c"))


class Predictor(nn.Module):
    """A convolution, and a loss of its own."""

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        w = self.param("w", nn.initializers.normal(), (3, 3, 1, 1))
        self.sow("losses", "extra", 0.1 * jnp.square(w).sum())
        y = x.reshape(-1, *x.shape[2:])
        y = jax.lax.conv_general_dilated(
            y, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y.reshape(x.shape)[:, -frames:]


class Recogniser(nn.Module):
    """Logits of the mean colour."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(3)(x.mean((1, 2, 3)))


def sgd():
    return create_optimizer("sgd", lr=1.0, total_steps=10)


def make(model, spec, accumulate=1, loss="mse"):
    task = prediction if isinstance(spec, ClipSpec) else recognition
    tx = sgd()
    state = create_state(init_variables(model, spec, 0), tx)
    objective = task.Objective(model, create_loss(loss), spec)
    return state, TrainStep(objective, tx, accumulate=accumulate)


def clips(n, seed=0):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (n, 4, 8, 8, 1)).astype(np.uint8)
    return {"input": video[:, :2], "target": video[:, 2:]}


def labelled(n, seed=0):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (n, 2, 2, 8, 8, 3)).astype(np.uint8)
    target = np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)]
    return {"input": video, "target": target}


# Whole, with padding in one part only, and nothing but padding.
WEIGHTS = ([1] * 6, [1, 1, 1, 0, 1, 0], [0] * 6)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize(
    ("model", "spec", "batch", "loss"),
    [
        (Predictor(), CLIPS, clips(6), "mse"),
        (Recogniser(), LABELS, labelled(6), "cross_entropy"),
    ],
)
def test_gradient_is_that_of_the_whole_batch(model, spec, batch, loss, weight):
    batch = batch | {"weight": np.array(weight, np.float32)}
    state, whole = make(model, spec, loss=loss)
    want, metrics = jax.jit(whole)(state, batch)
    for parts in (2, 3):
        _, step = make(model, spec, parts, loss)
        got, of_parts = jax.jit(step)(state, batch)
        for name in metrics:
            np.testing.assert_allclose(of_parts[name], metrics[name], rtol=2e-6)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7),
            got.params,
            want.params,
        )


def test_parts_take_turns():
    parts = split({"input": np.arange(6)[:, None]}, 2)["input"]
    np.testing.assert_array_equal(parts[..., 0], [[0, 2, 4], [1, 3, 5]])


def test_statistics_go_from_part_to_part():
    model = BatchNorm(momentum=0.5)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), x, train=False)

    def loss(params, collections, batch, rng):
        y, new = model.apply(
            {"params": params, **collections},
            batch["x"],
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.square(y).sum(), dict(new)

    stats = {"batch_stats": variables["batch_stats"]}
    key = jax.random.key(0)
    args = variables["params"], stats, {"x": x}, key
    value, after, grads = gradients(loss, *args, 2)
    mean, value2, total = np.zeros(3), 0, np.zeros(3)
    for part in (x[::2], x[1::2]):
        mean = 0.5 * mean + 0.5 * part.mean(0)
        one, _, g = gradients(loss, variables["params"], stats, {"x": part}, key, 1)
        value2, total = value2 + one, total + g["scale"]
    np.testing.assert_allclose(after["batch_stats"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(value, value2, rtol=1e-5)
    np.testing.assert_allclose(grads["scale"], total, rtol=1e-5)


def test_parts_have_randomness_of_their_own():
    def loss(params, collections, batch, rng):
        return jax.random.uniform(rng) * params["w"], collections

    key, params = jax.random.key(3), {"w": jnp.ones(())}
    _, _, grads = gradients(loss, params, {}, {"x": np.zeros((6, 1))}, key, 3)
    drawn = [jax.random.uniform(jax.random.fold_in(key, k)) for k in range(3)]
    np.testing.assert_allclose(grads["w"], sum(drawn), rtol=1e-6)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)])
def test_shares_stay_on_their_device(shape):
    mesh = make_mesh(*shape)
    state, step = make(Predictor(), CLIPS, 2)
    batch = clips(16) | {"weight": np.ones(16, np.float32)}
    want, _ = jax.jit(step)(state, batch)
    with jax.set_mesh(mesh):
        shardings = state_shardings(state, mesh)
        jitted = jax.jit(step, out_shardings=(shardings, None))
        args = jax.device_put(state, shardings), put_batch(mesh, batch)
        text = jitted.lower(*args).compile().as_text()
        got, _ = jitted(*args)
    found = set(re.findall(r"(all-gather|all-to-all|collective-permute)\(", text))
    assert found <= ({"collective-permute"} if shape[2] > 1 else set())  # halos
    np.testing.assert_allclose(got.params["w"], want.params["w"], rtol=1e-5)


@pytest.mark.parametrize(
    ("batch", "parts", "size", "words"),
    [
        (6, 4, None, "train.accumulate=4 does not divide data.batch=6"),
        (6, 0, None, "train.accumulate=0"),
        (8, 2, 3, "train.bn_group=3 does not divide data.batch=8 / train.accumulate=2"),
    ],
)
def test_numbers_that_do_not_fit(batch, parts, size, words):
    config = load_config("tau/moving_digits:miniature")
    config.data.batch = batch
    config.train.update(accumulate=parts, bn_group=size)
    with pytest.raises(UserError, match=words):
        bn_groups(config)


def test_groups_are_of_a_part():
    config = load_config("tau/moving_digits:miniature")
    config.data.batch = 12
    config.train.accumulate = 2
    assert bn_groups(config) == 1
    config.train.bn_group = 3
    assert bn_groups(config) == 2
