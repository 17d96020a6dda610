"""SwinLSTM against OpenSTL's (golden files), and its exact parameter count."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.convert import from_torch, to_torch
from stjax.errors import UserError
from stjax.models.recurrent.swinlstm import shift_mask

FIELDS = {
    "swinlstm_b": ("embed_dim", "depths", "num_heads", "window_size"),
    "swinlstm_d": (
        "embed_dim",
        "depths_downsample",
        "depths_upsample",
        "num_heads",
        "window_size",
    ),
}
NAMES = {"swinlstm_b": "swinlstm_b", "swinlstm_d": "swinlstm"}


def channels_last(x):
    return jnp.asarray(np.moveaxis(x, 2, -1))


def random_variables(model, x):
    """Weights N(0, 1/fan_in), without compiling an initialisation."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)

    def draw(leaf):
        fan_in = max(1, math.prod(leaf.shape[:-1]))
        return jnp.asarray(rng.standard_normal(leaf.shape) / fan_in**0.5, jnp.float32)

    return jax.tree.map(draw, shapes)


def close(x, ref, rel):
    x = np.asarray(x)
    assert x.shape == ref.shape
    assert np.abs(x - ref).max() <= rel * np.abs(ref).max()


@pytest.mark.parametrize("case", FIELDS)
def test_parity(golden, case):
    z = golden(f"baselines/{case}.npz")
    c = json.loads(str(z["config_json"]))
    fields = {k: tuple(v) if isinstance(v := c[k], list) else v for k in FIELDS[case]}
    # Stochastic depth is off, as in the reference: training differs by it alone.
    model = stjax.create_model(NAMES[case], drop_path_rate=0.0, **fields)
    state = {k[6:]: z[k] for k in z.files if k.startswith("param/")}
    variables = from_torch(model, state)
    assert sum(v.size for v in jax.tree.leaves(variables)) == int(z["num_parameters"])
    constants = ("attn_mask", "relative_position_index")
    back = to_torch(model, variables)
    assert back.keys() == {k for k in state if not k.endswith(constants)}
    for key, value in back.items():
        np.testing.assert_array_equal(value, state[key])

    x, y = channels_last(z["input"]), channels_last(z["target"])
    truth = jnp.concatenate([x, y], 1)[:, 1:]

    def loss_of(variables):
        rngs = {"dropout": jax.random.key(0)}
        pred = model.apply(variables, x, train=True, target=y, rngs=rngs)
        return jnp.mean((pred - truth) ** 2), pred

    if case == "swinlstm_d":  # the same cells: their gradients are compared in B
        loss, pred = jax.jit(loss_of)(variables)
    else:
        step = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
        (loss, pred), grads = step(variables)
    close(pred, np.moveaxis(z["output_all"], 2, -1), 1e-5)
    np.testing.assert_allclose(loss, z["loss"], rtol=1e-5)
    if case == "swinlstm_d":
        return
    found = to_torch(model, grads)
    for key in [k for k in z.files if k.startswith("grad/")]:
        close(found[key[5:]], z[key], 5e-5)


def test_parameter_count():
    model = stjax.create_model("swinlstm")
    x = jnp.zeros((1, 10, 64, 64, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    assert sum(math.prod(v.shape) for v in jax.tree.leaves(shapes)) == 20_191_969


def test_stochastic_depth_differs_by_key():
    model = stjax.create_model(
        "swinlstm_b", embed_dim=4, depths=1, num_heads=1, drop_path_rate=0.5
    )
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 2, 8, 8, 1)), jnp.float32)
    variables = random_variables(model, x)
    train = jax.jit(
        lambda k: model.apply(variables, x, train=True, target=x, rngs={"dropout": k})
    )
    one, other = train(jax.random.key(2)), train(jax.random.key(3))
    assert one.shape == (4, 3, 8, 8, 1)
    assert np.abs(one - other).max() > 1e-4


def test_shift_mask_separates_what_was_apart():
    # 4x4 map, windows of 2, shifted by 1: the first window is whole, the last one
    # holds four corners of the map.
    mask = shift_mask(4, 4, 2, 1)
    assert not mask[0].any()
    np.testing.assert_array_equal(mask[3] == 0, np.eye(4, dtype=bool))


def test_errors():
    model = stjax.create_model("swinlstm")
    with pytest.raises(UserError, match="divisible by 8"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 36, 36, 1)))
    with pytest.raises(UserError, match="cut into windows"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 40, 40, 1)))
    model = stjax.create_model("swinlstm", num_heads=(4,))
    with pytest.raises(UserError, match="lengths"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 64, 64, 1)))
