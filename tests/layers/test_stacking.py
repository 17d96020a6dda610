"""Blocks in one loop compute what the same blocks in a row do."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax import stacked
from stjax.convert import from_torch, to_torch
from stjax.convert.inflate import inflate
from stjax.errors import UserError
from stjax.layers.common import DropPath
from stjax.layers.stacking import scan_blocks
from stjax.optim import create_optimizer
from stjax.param_groups import layer_scales, trained

SIMVP = {
    "drop_path_floor": 0.0,
    "hid_s": 4,
    "hid_t": 16,
    "n_s": 2,
    "n_t": 5,
    "mlp_ratio": 2.0,
}
UNIFORMER = {
    "depth": (2, 1, 2, 1),
    "embed_dim": (8, 8, 16, 16),
    "head_dim": 8,
    "mlp_ratio": 2.0,
    "num_classes": 3,
    "drop_path_rate": 0.0,
}
RESNET = {"width": 4, "num_classes": 3, "dropout": 0.0}
PREDFORMER = {"dim": 8, "heads": 2, "dim_head": 4, "n_depth": 2, "drop_path_rate": 0.0}
PREDFORMER |= {"dropout": 0.0, "attn_dropout": 0.0, "patch_size": 4}
FULL = {"variant": "full"}
MODELS = {
    "tau": ("tau", SIMVP, (2, 16, 16, 1)),
    "swin": ("simvp", {**SIMVP, "translator": "swin", "n_t": 6}, (2, 16, 16, 1)),
    "uniformer": ("uniformer_s", UNIFORMER, (2, 32, 32, 3)),
    "predformer": ("predformer", PREDFORMER, (2, 8, 8, 1)),
    "predformer_full": ("predformer", PREDFORMER | FULL, (2, 8, 8, 1)),
    "i3d": ("i3d_r50", RESNET, (4, 32, 32, 3)),
}


def build(name, **more):
    model, fields, shape = MODELS[name]
    fields = {**fields, **more}
    return stjax.create_model(model, **fields), (2, *shape)


def abstract(model, shape):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape)))


def named(tree):
    flat = flax.traverse_util.flatten_dict(tree, sep="/")
    return {name: (leaf.shape, leaf.dtype) for name, leaf in flat.items()}


def variables_of(model, shape, seed=0):
    """Random ones, of a size that keeps activations of order one."""
    rng = np.random.default_rng(seed)

    def make(path, leaf):
        value = rng.normal(size=leaf.shape).astype(np.float32) * 0.3
        positive = str(path[-1].key) in ("var", "scale") or "layer_scale" in str(path)
        return 1 + 0.3 * np.abs(value) if positive else value

    return jax.tree_util.tree_map_with_path(make, abstract(model, shape))


@pytest.mark.parametrize("name", ["tau", "swin", "uniformer"])
def test_loop_equals_row(name):
    row, shape = build(name)
    loop, _ = build(name, scan=True)
    variables = variables_of(row, shape)
    in_loop = stacked.stack(variables, abstract(loop, shape))
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
        got = flax.traverse_util.flatten_dict(stacked.unstack(got), sep="/")
        want = flax.traverse_util.flatten_dict(want, sep="/")
        assert got.keys() == want.keys()
        largest = max((np.abs(v).max() for v in want.values()), default=0)
        for key, value in want.items():
            scale = max(np.abs(value).max(), 1e-3 * largest)
            assert np.abs(got[key] - value).max() < 2e-5 * scale, key


@pytest.mark.parametrize("name", MODELS)
def test_either_form_follows_from_the_other(name):
    row, shape = build(name)
    loop, _ = build(name, scan=True)
    single, stacks = abstract(row, shape), abstract(loop, shape)
    assert len(named(stacks)) < len(named(single))
    assert named(stacked.unstack(stacks)) == named(single)
    assert named(stacked.stack(single, stacks)) == named(stacks)
    names = [n for path in named(stacks) for n in stacked.unstacked_names(path)]
    assert sorted(names) == sorted(named(single))
    variables = variables_of(loop, shape)
    again = stacked.stack(stacked.unstack(variables), stacks)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_names_of_stacks():
    assert stacked.stack_name("enc_", 1, 6) == "enc_1to6"
    assert stacked.members("enc_1to6") == [f"enc_{i}" for i in range(1, 7)]
    name = stacked.stack_name("pathway0_res", 1, 4, cycle=2)
    assert name == "pathway0_res1to4by2"
    path = f"params/s4/{name}/of1/branch2/a/kernel"
    blocks = [f"params/s4/pathway0_res{i}/branch2/a/kernel" for i in (2, 4)]
    assert stacked.unstacked_names(path) == blocks
    for name in ("to_qkv", "enc_1", "3to4", "layer_scale_1"):
        assert stacked.members(name) == []


@pytest.mark.parametrize("name", ["tau", "uniformer", "i3d"])
def test_conversion_goes_by_single_blocks(name):
    row, shape = build(name)
    loop, _ = build(name, scan=True)
    variables = variables_of(loop, shape)
    state = to_torch(loop, variables)
    assert state.keys() == to_torch(row, stacked.unstack(variables)).keys()
    jax.tree.map(np.testing.assert_array_equal, from_torch(loop, state), variables)
    if name == "tau":
        assert state["hid.enc.2.block.norm1.weight"].shape == (16,)
        return
    inflated = inflate(loop, state)
    jax.tree.map(np.testing.assert_array_equal, inflated, variables)


def test_rates_differ_from_block_to_block():
    rates, n = (0.0, 0.25, 0.5), 4096

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, train, rate=None):
            y = DropPath(rate)(jnp.ones_like(x), train=train)
            self.sow("intermediates", "kept", (y != 0).mean())
            self.sow("intermediates", "mean", y.mean())
            return x + y

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return scan_blocks(Block(name="b0to2"), x, train, 3, rates=rates)

    x, key = jnp.zeros((n, 1)), {"dropout": jax.random.key(0)}
    y, new = Net().apply({}, x, True, rngs=key, mutable=["intermediates"])
    kept, mean = (new["intermediates"]["b0to2"][k][0] for k in ("kept", "mean"))
    spread = 5 * (np.array(rates) * (1 - np.array(rates)) / n) ** 0.5
    assert (np.abs(kept - (1 - np.array(rates))) <= spread).all()
    np.testing.assert_allclose(mean * (1 - np.array(rates)), kept, rtol=1e-5)
    assert len(np.unique(y)) == 4  # the blocks do not drop together
    np.testing.assert_array_equal(Net().apply({}, x, False), 3.0)


def names_to_values(tree):
    flat = flax.traverse_util.flatten_dict(stacked.unstack(tree), sep="/")
    return {name: np.asarray(value) for name, value in flat.items()}


@pytest.mark.parametrize("fields", [{"decay_1d": False}, {"layer_decay": 0.5}])
def test_the_optimizer_does_the_same(fields):
    row, shape = build("uniformer")
    loop, _ = build("uniformer", scan=True)
    stacks = variables_of(loop, shape)["params"]
    tx = create_optimizer("adamw", lr=0.1, total_steps=9, weight_decay=0.1, **fields)

    @jax.jit
    def update(params):
        grads = jax.tree.map(lambda p: 0.1 * p, params)
        return tx.update(grads, tx.init(params), params)[0]

    def updated(params):
        return names_to_values(update(params))

    got, want = updated(stacks), updated(stacked.unstack(stacks))
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-6)


def test_layers_of_a_stack_have_rates_of_their_own():
    params = {"blocks1_0to1": {"w": np.zeros((2, 3))}, "head": np.zeros(3)}
    scales = layer_scales(params, 0.5)
    np.testing.assert_array_equal(scales["blocks1_0to1"]["w"], [[0.25], [0.5]])
    assert scales["head"] == 1.0


def test_freezing_in_a_loop():
    params = {"blocks1_0to1": {"w": np.zeros((2, 3))}, "head": np.zeros(3)}
    assert trained(params, (r"^blocks1_",)).keys() == {"head"}
    with pytest.raises(UserError, match="blocks1_1/w, but not blocks1_0/w"):
        trained(params, (r"^blocks1_1/",))
