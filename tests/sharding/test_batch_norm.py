"""Batch statistics over devices: global under jit, or of groups that stay apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.aot.hlo import collectives
from stjax.layers.common import BatchNorm, grouped_batch_norm
from stjax.sharding.mesh import make_mesh, put_batch

X = np.random.default_rng(0).normal(3, 2, (8, 2, 8, 4, 5)).astype(np.float32)


def apply(variables, x, groups=1):
    """The normalised batch and the running statistics."""
    with grouped_batch_norm(groups):
        return BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])


def variables():
    return BatchNorm().init(jax.random.key(0), X, train=False)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2)])
def test_statistics_are_those_of_the_whole_batch(sizes):
    mesh = make_mesh(*sizes)
    with jax.set_mesh(mesh):
        y, updates = jax.jit(apply)(variables(), put_batch(mesh, {"x": X})["x"])
    axes = (0, 1, 2, 3)
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-6)
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-5)
    stats = updates["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * X.mean(axes), rtol=1e-5)
    unbiased = X.var(axes, ddof=1)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * unbiased, rtol=1e-5)


@pytest.mark.parametrize("groups, talks", [(8, False), (1, True)])
def test_groups_of_a_device_each_ask_nobody(groups, talks):
    mesh = make_mesh(8)
    with jax.set_mesh(mesh):
        x = put_batch(mesh, {"x": X})["x"]

        def normalised(x):
            return apply(variables(), x, groups)[0]

        program = jax.jit(normalised).lower(x).compile()
        y = program(x)
        # The gradient of the input, too.
        back = jax.jit(jax.grad(lambda x: jnp.cos(normalised(x)).sum()))
        gradient = back.lower(x).compile()
    assert bool(collectives(program)) == bool(collectives(gradient)) == talks
    if not talks:
        each = X.mean((1, 2, 3), keepdims=True), X.std((1, 2, 3), keepdims=True)
        np.testing.assert_allclose(y, (X - each[0]) / each[1], atol=1e-4)
