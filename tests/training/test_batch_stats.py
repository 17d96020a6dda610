"""Measured batch statistics equal numpy's over all batches."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from stjax.errors import UserError
from stjax.layers.common import BatchNorm
from stjax.sharding.mesh import make_mesh, put_batch, replicated
from stjax.training.batch_stats import recalibrate


class Block(nn.Module):
    """A batch norm and a product."""

    frozen: bool = False

    @nn.compact
    def __call__(self, x, train):
        norm = BatchNorm(frozen=self.frozen, name="bn")
        return nn.Dense(4, name="fc")(norm(x, train=train)) ** 2


class Net(nn.Module):
    """Two blocks, the first recomputed in the backward pass, and Flax's batch norm."""

    remat: bool = False
    frozen: bool = False

    @nn.compact
    def __call__(self, x, *, train=False):
        cls = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        x = cls(self.frozen, name="one")(x, train)
        x = Block(name="two")(x, train)
        return nn.BatchNorm(use_running_average=not train, name="last")(x)


def batches(n=5):
    rng = np.random.default_rng(0)
    # A mean far from zero: E[x^2] - E[x]^2 in float32 would lose the variance.
    return [rng.normal(1000, 0.5, (8, 3, 4)).astype(np.float32) for _ in range(n)]


def run(model, variables, x, train=True):
    return model.apply(variables, x, train=train, mutable=["batch_stats"])[1]


def forward_of(model):
    def forward(variables, batch, index):
        del index
        return run(model, variables, batch)

    return forward


def expected(variables, data):
    """Float64: every layer normalises by the batch, as in training."""
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), variables["params"])
    seen = {"one/bn": [], "two/bn": [], "last": []}

    def norm(x, name, p, epsilon):
        seen[name].append(x)
        y = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + epsilon)
        return y * p["scale"] + p["bias"]

    for batch in data:
        x = batch.astype(np.float64)
        for name in ("one", "two"):
            p = params[name]
            x = norm(x, f"{name}/bn", p["bn"], 1e-5)
            x = (x @ p["fc"]["kernel"] + p["fc"]["bias"]) ** 2
        norm(x, "last", params["last"], 1e-5)
    return {k: np.concatenate(v) for k, v in seen.items()}


def close(stats, values):
    mean, var = values.mean((0, 1)), values.var((0, 1))
    np.testing.assert_allclose(stats["mean"], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["var"], var, rtol=1e-3)


@pytest.mark.parametrize("remat", [False, True])
def test_statistics_are_those_of_all_values(remat):
    model, data = Net(remat), batches()
    variables = model.init(jax.random.key(0), data[0])
    found = recalibrate(variables, iter(data), forward_of(model))
    values = expected(variables, data)
    close(found["batch_stats"]["one"]["bn"], values["one/bn"])
    close(found["batch_stats"]["two"]["bn"], values["two/bn"])
    close(found["batch_stats"]["last"], values["last"])
    jax.tree.map(np.testing.assert_array_equal, found["params"], variables["params"])
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    # What was given is as it was.
    np.testing.assert_array_equal(variables["batch_stats"]["last"]["mean"], 0)


def test_frozen_layers_stay():
    model, data = Net(frozen=True), batches(2)
    variables = model.init(jax.random.key(0), data[0])
    found = recalibrate(variables, data, forward_of(model))["batch_stats"]
    np.testing.assert_array_equal(found["one"]["bn"]["mean"], 0)
    np.testing.assert_array_equal(found["one"]["bn"]["var"], 1)
    assert found["two"]["bn"]["mean"].any()


class Thrice(nn.Module):
    """One batch norm for three inputs."""

    @nn.compact
    def __call__(self, x, *, train=False):
        norm = BatchNorm(name="bn")
        return sum(norm(x + shift, train=train) for shift in (0, 2, 7))


def test_a_shared_layer_gets_the_moments_of_all_uses():
    model, data = Thrice(), batches(3)
    variables = model.init(jax.random.key(0), data[0])
    found = recalibrate(variables, data, forward_of(model))["batch_stats"]["bn"]
    values = np.concatenate(data).astype(np.float64)
    close(found, np.concatenate([values, values + 2, values + 7]))


def test_every_batch_has_its_index():
    model, data = Thrice(), batches(3)
    variables = model.init(jax.random.key(0), data[0])

    def forward(variables, batch, index):
        return run(model, variables, batch * 0 + index)

    found = recalibrate(variables, data, forward)["batch_stats"]["bn"]
    values = np.array([0, 1, 2, 2, 3, 4, 7, 8, 9])
    np.testing.assert_allclose(found["mean"], values.mean(), rtol=1e-6)
    np.testing.assert_allclose(found["var"], values.var(), rtol=1e-6)


def test_on_a_mesh_as_on_one_device():
    model, data = Net(), batches(2)
    variables = model.init(jax.random.key(0), data[0])
    single = recalibrate(variables, data, forward_of(model))
    mesh = make_mesh()
    everywhere = replicated(mesh)
    with jax.set_mesh(mesh):
        found = recalibrate(
            jax.device_put(variables, everywhere),
            [put_batch(mesh, {"x": x})["x"] for x in data],
            forward_of(model),
            everywhere,
        )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(single), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
        assert a.sharding.is_equivalent_to(everywhere, a.ndim)


def test_nothing_to_measure():
    data = batches(1)
    variables = Net().init(jax.random.key(0), data[0])
    with pytest.raises(UserError, match="measured nothing in 0 batches"):
        recalibrate(variables, [], forward_of(Net()))
    with pytest.raises(UserError, match="measured nothing in 1 batches"):
        recalibrate(variables, data, lambda v, x, i: run(Net(), v, x, train=False))
