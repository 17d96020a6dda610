"""Blocks in one loop compute what the same blocks in a row do."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax import stacked

# Compiles faster than the default generator.
KEY = jax.random.key(0, impl="unsafe_rbg")
SIMVP = {"hid_s": 4, "hid_t": 16, "n_s": 2, "n_t": 5, "mlp_ratio": 2.0}
UNIFORMER = {
    "depth": (2, 1, 3, 2),
    "embed_dim": (8, 8, 16, 16),
    "head_dim": 8,
    "mlp_ratio": 2.0,
    "num_classes": 3,
}
MODELS = {
    "tau": ("tau", SIMVP, (2, 16, 16, 1)),
    "swin": ("simvp", {**SIMVP, "translator": "swin"}, (2, 16, 16, 1)),
    "uniformer": ("uniformer_s", UNIFORMER, (2, 32, 32, 3)),
}


def build(name, **more):
    model, fields, shape = MODELS[name]
    fields = {"drop_path_rate": 0.0, **fields, **more}
    if "n_t" in fields:
        fields = {"drop_path_floor": 0.0, **fields}
    return stjax.create_model(model, **fields), (2, *shape)


def variables_of(model, shape, seed=0):
    """Random ones, of a size that keeps activations of order one."""
    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape)))
    rng = np.random.default_rng(seed)

    def make(path, leaf):
        value = rng.normal(size=leaf.shape).astype(np.float32) * 0.3
        positive = str(path[-1].key) in ("var", "scale") or "layer_scale" in str(path)
        return 1 + 0.3 * np.abs(value) if positive else value

    return jax.tree_util.tree_map_with_path(make, abstract)


@pytest.mark.parametrize("name", MODELS)
def test_loop_equals_row(name):
    row, shape = build(name)
    loop, _ = build(name, scan=True)
    variables = variables_of(row, shape)
    like = jax.eval_shape(lambda: loop.init(jax.random.key(0), jnp.zeros(shape)))
    in_loop = stacked.stack(variables, like)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)

    def loss(model):
        @jax.jit
        def of(variables):
            def inner(params):
                y, new = model.apply(
                    {**variables, "params": params},
                    x,
                    train=True,
                    rngs={"dropout": jax.random.key(1)},
                    mutable=["batch_stats"],
                )
                return jnp.square(y).sum(), new

            return jax.value_and_grad(inner, has_aux=True)(variables["params"])

        return of

    (value, stats), grads = loss(row)(variables)
    (value2, stats2), grads2 = loss(loop)(in_loop)
    np.testing.assert_allclose(value2, value, rtol=1e-5)
    for got, want in ((grads2, grads), (stats2, stats)):
        assert stacked.has_stacks(got) or not got
        got = flax.traverse_util.flatten_dict(stacked.unstack(got), sep="/")
        want = flax.traverse_util.flatten_dict(want, sep="/")
        assert got.keys() == want.keys()
        largest = max((np.abs(v).max() for v in want.values()), default=0)
        for key, value in want.items():
            scale = max(np.abs(value).max(), 1e-3 * largest)
            assert np.abs(got[key] - value).max() < 2e-5 * scale, key
