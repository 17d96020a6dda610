import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from stjax.data.base import ClipSpec
from stjax.layers.common import BatchNorm
from stjax.losses import create_loss
from stjax.optim import create_optimizer
from stjax.sharding.mesh import make_mesh, put_batch
from stjax.tasks import normalise
from stjax.tasks.prediction import Objective
from stjax.training.state import create_state, init_variables, state_shardings
from stjax.training.step import TrainStep

SPEC = ClipSpec(2, 2, 4, 4)


class Scaled(nn.Module):
    """Predicts w times the last frame; counts its calls; adds a loss."""

    extra: float = 0.0

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        w = self.param("w", nn.initializers.constant(0.5), ())
        calls = self.variable("batch_stats", "calls", lambda: jnp.zeros(()))
        if train:
            calls.value += 1
        self.sow("losses", "extra", self.extra * w)
        return w * jnp.repeat(x[:, -1:], frames, 1)


class Longer(nn.Module):
    """Like a recurrent model: in training also predicts the second input frame."""

    uses_target = True

    @nn.compact
    def __call__(self, x, *, frames=None, train=False, target=None, step=0):
        w = self.param("w", nn.initializers.constant(1.0), ())
        if not train:
            return w * jnp.repeat(x[:, -1:], frames, 1)
        assert target.shape[1] == frames
        return w * (jnp.concatenate([x, target], 1)[:, 1:] + step)


def sgd(lr=1.0):
    return create_optimizer("sgd", lr=lr, total_steps=10)


def batch(n=2, seed=0, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (n, 4, 4, 4, 1)).astype(dtype)
    weight = np.ones(n, np.float32)
    return {"input": video[:, :2], "target": video[:, 2:], "weight": weight}


def make(model, spec=SPEC):
    tx = sgd()
    state = create_state(init_variables(model, spec, 0), tx)
    return state, TrainStep(Objective(model, create_loss("mse"), spec), tx, seed=0)


def test_loss_gradient_and_update_in_closed_form():
    state, step = make(Scaled(extra=0.25))
    data = batch()
    after, metrics = jax.jit(step)(state, data)
    x = data["input"][:, -1:] / 255.0
    y = data["target"] / 255.0
    loss = np.mean((0.5 * x - y) ** 2) + 0.25 * 0.5
    gradient = np.mean(2 * (0.5 * x - y) * x) + 0.25
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], abs(gradient), rtol=1e-5)
    np.testing.assert_allclose(after.params["w"], 0.5 - gradient, rtol=1e-5)
    assert after.collections == {"batch_stats": {"calls": 1}}
    assert after.step == 1 and metrics["lr"] == 1


def test_clips_of_weight_zero_do_not_count():
    state, step = make(Scaled())
    data = batch(3)
    data["weight"][2] = 0
    _, padded = step(state, data)
    _, whole = step(state, {k: v[:2] for k, v in data.items()})
    np.testing.assert_allclose(padded["loss"], whole["loss"], rtol=1e-6)


def test_more_frames_are_compared_with_the_end_of_the_whole_clip():
    state, step = make(Longer())
    _, metrics = step(state, batch())
    np.testing.assert_allclose(metrics["loss"], 0, atol=1e-12)
    assert metrics["grad_norm"] < 1e-6


def test_masked_nan_reaches_neither_loss_nor_gradient():
    spec = ClipSpec(2, 2, 4, 4, dtype="float32", scale=(1.0,))
    state, step = make(Scaled(), spec)
    data = batch(dtype=np.float32)
    data["mask"] = np.ones(data["target"].shape, np.uint8)
    data["mask"][:, :, :2] = 0
    _, clean = step(state, data)
    data["target"][:, :, :2] = np.nan
    after, metrics = step(state, data)
    np.testing.assert_array_equal(metrics["loss"], clean["loss"])
    assert np.isfinite(after.params["w"])


def test_normalise_by_channel():
    raw = np.array([[280.0, 5.0]], np.float32)
    np.testing.assert_allclose(normalise(raw, (270.0, 1.0), (10.0, 2.0)), [[1, 2]])


@pytest.mark.parametrize("sizes", [{"data": 4}, {"data": 2, "space": 2}])
def test_sharded_step_equals_one_device(sizes):
    results = []
    for mesh in (make_mesh(data=1), make_mesh(**sizes)):
        state, step = make(Scaled(extra=0.1))
        with jax.set_mesh(mesh):
            shardings = state_shardings(state, mesh)
            step = step.jitted(shardings, mesh)
            state = jax.device_put(state, shardings)
            for i in range(3):
                state, metrics = step(state, put_batch(mesh, batch(4, i)))
        assert state.params["w"].sharding.is_fully_replicated
        results.append((metrics["loss"], state.params["w"]))
    np.testing.assert_allclose(*results, rtol=1e-6)


class Normed(nn.Module):
    """A batch normalisation and a weight."""

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        w = self.param("w", nn.initializers.constant(0.5), ())
        return w * BatchNorm(name="bn")(x[:, -1:], train=train).repeat(frames, 1)


def test_groups_of_a_batch_have_statistics_of_their_own():
    tx = sgd(0.0)
    objective = Objective(Normed(), create_loss("mse"), SPEC)
    state = create_state(init_variables(Normed(), SPEC, 0), tx)
    data = batch(6)
    after, whole = TrainStep(objective, tx, bn_groups=3)(state, data)
    parts = [
        TrainStep(objective, tx)(state, {k: v[i : i + 2] for k, v in data.items()})
        for i in (0, 2, 4)
    ]
    np.testing.assert_allclose(
        whole["loss"], np.mean([m["loss"] for _, m in parts]), rtol=1e-6
    )
    for name in ("mean", "var"):
        each = [s.collections["batch_stats"]["bn"][name] for s, _ in parts]
        np.testing.assert_allclose(
            after.collections["batch_stats"]["bn"][name], np.mean(each, 0), rtol=1e-6
        )
