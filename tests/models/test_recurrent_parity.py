"""The recurrent models compute what OpenSTL's do (golden files, float64 there)."""

import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.convert import from_torch, to_torch
from stjax.models.recurrent.phycell import moments

# File -> model, tolerance of outputs and of gradients (the golden files' README).
CASES = {
    "convlstm": ("convlstm", 1e-5, 5e-5),
    "predrnn": ("predrnn", 1e-5, 5e-5),
    "predrnn_ln": ("predrnn", 1e-5, 5e-5),
    "predrnnpp": ("predrnnpp", 4e-5, 1e-4),
    "predrnnv2": ("predrnnv2", 1e-5, 5e-5),
    "mim": ("mim", 1e-5, 5e-5),
    "mim_ln": ("mim", 1e-5, 5e-5),
    "mau": ("mau", 1e-5, 5e-5),
    "mau_recall": ("mau", 1e-5, 5e-5),
    "e3dlstm": ("e3dlstm", 1e-5, 5e-5),
    "e3dlstm_s2": ("e3dlstm", 1e-5, 5e-5),
}


def channels_last(x):
    return jnp.asarray(np.moveaxis(x, 2, -1))


def close(x, ref, rel):
    x = np.asarray(x)
    assert x.shape == ref.shape
    assert np.abs(x - ref).max() <= rel * np.abs(ref).max()


def state_dict(z):
    return {k[6:]: z[k] for k in z.files if k.startswith("param/")}


def model_of(name, z, **fields):
    """The model of a golden file, from its config."""
    c = json.loads(str(z["config_json"]))
    hidden = c["num_hidden"]
    if isinstance(hidden, str):
        hidden = hidden.split(",")
    fields |= {"num_hidden": tuple(map(int, hidden)), "filter_size": c["filter_size"]}
    if name == "mau":
        fields |= {k: c[k] for k in ("sr_size", "tau", "cell_mode", "model_mode")}
    else:
        fields |= {"patch_size": c["patch_size"], "layer_norm": bool(c["layer_norm"])}
    if name == "e3dlstm":
        fields["conv_stride"] = c["stride"]
    if c.get("reverse_scheduled_sampling"):
        fields["sampling"] = "reverse"
    return stjax.create_model(name, **fields)


def clip_of(z):
    return channels_last(z["input"]), channels_last(z["target"])


def loaded(name, z, **fields):
    model = model_of(name, z, **fields)
    variables = from_torch(model, state_dict(z))
    assert sum(v.size for v in jax.tree.leaves(variables)) == int(z["num_parameters"])
    return model, variables


@pytest.mark.parametrize("case", CASES)
def test_prediction(golden, case):
    z = golden(f"baselines/{case}.npz")
    name, rel, _ = CASES[case]
    versions = {"": "output"}
    if "output_v030" in z.files:
        versions = {"0.3.0": "output_v030", "head": "output"}
    x, y = clip_of(z)
    for version, key in versions.items():
        model, variables = loaded(name, z, **({"version": version} if version else {}))
        predict = jax.jit(lambda v, x, m=model: m.apply(v, x, frames=y.shape[1]))
        close(predict(variables, x), np.moveaxis(z[key], 2, -1), rel)


def test_the_default_is_the_published_version():
    for name in ("convlstm", "predrnnpp"):
        assert stjax.create_model(name).version == "0.3.0"


# Their forward pass says all: gradients of the same cells are compared elsewhere.
@pytest.mark.parametrize(
    "case", [c for c in CASES if c not in ("mim_ln", "e3dlstm_s2")]
)
def test_training(golden, case):
    """Predictions, loss and gradients under given sampling masks."""
    z = golden(f"baselines/{case}.npz")
    name, rel, rel_grad = CASES[case]
    versioned = "output_v030" in z.files
    model, variables = loaded(name, z, **({"version": "head"} if versioned else {}))
    x, y = clip_of(z)
    truth = jnp.concatenate([x, y], 1)[:, 1:]

    def loss_of(variables, mask):
        pred, sown = model.apply(
            variables,
            x,
            frames=y.shape[1],
            train=True,
            target=y,
            sampling_mask=mask,
            mutable=["losses"],
        )
        mse = jnp.mean((pred - truth) ** 2)
        loss = mse + sum(jax.tree.leaves(sown))
        if name == "e3dlstm":
            loss = loss + jnp.mean(jnp.abs(pred - truth))
        return loss, (mse, pred)

    step = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    (loss, (mse, pred)), grads = step(variables, jnp.asarray(z["mask_mixed"]))
    close(pred, np.moveaxis(z["output_mixed"], 2, -1), rel)
    np.testing.assert_allclose(mse, z["mse_mixed"], rtol=1e-5)
    np.testing.assert_allclose(loss, z["loss_mixed"], rtol=1e-5)
    found = to_torch(model, grads)
    for key in [k for k in z.files if k.startswith("grad/")]:
        close(found[key[5:]], z[key], rel_grad)
    if "zero_grad_json" in z.files:
        unused = json.loads(str(z["unused_json"]))
        for key in unused + json.loads(str(z["zero_grad_json"])):
            assert not found[key].any()

    _, (_, pred) = step(variables, jnp.asarray(z["mask"]))[0]
    close(pred, np.moveaxis(z["output_all"], 2, -1), rel)


@pytest.mark.parametrize("case", CASES)
def test_conversion_there_and_back(golden, case):
    z = golden(f"baselines/{case}.npz")
    state = state_dict(z)
    model, variables = loaded(CASES[case][0], z)
    back = to_torch(model, variables)
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def recipe_value(key, shape, seed, scales):
    """A weight by the recipe of the golden files' README."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    if len(shape) == 1 and key.endswith("weight"):
        v = 1 + 0.1 * rng.standard_normal(shape)
    elif key.endswith("bias"):
        v = 0.1 * rng.standard_normal(shape)
    else:
        v = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    for pattern, scale in scales:
        if pattern in key:
            v = v * scale
            break
    return v.astype(np.float32)


@pytest.fixture(scope="module")
def phydnet(golden):
    z = golden("baselines/recipe_phydnet.npz")
    seed, scales = int(z["seed"]), json.loads(str(z["scales_json"]))
    keys = json.loads(str(z["keys_json"]))
    state = {k: recipe_value(k, tuple(s), seed, scales) for k, s in keys}
    model = stjax.create_model("phydnet", patch_size=4)
    return z, state, model


def test_phydnet_conversion(phydnet):
    z, state, model = phydnet
    # A real checkpoint lists two parts twice, and constants.
    full = state | {
        k.removeprefix("encoder."): v
        for k, v in state.items()
        if k.startswith(("encoder.phycell.", "encoder.convcell."))
    }
    constants = {f"k2m.{m}{i}": np.zeros((7, 7)) for m in ("_M", "_invM") for i in "01"}
    variables = from_torch(model, full | constants)
    assert sum(v.size for v in jax.tree.leaves(variables)) == int(z["num_parameters"])
    back = to_torch(model, variables)
    assert back.keys() == full.keys()
    for key, value in full.items():
        np.testing.assert_array_equal(back[key], value)


def test_phydnet_prediction_and_its_parts(phydnet):
    z, state, model = phydnet
    x, y = clip_of(z)
    predict = jax.jit(
        lambda v: model.apply(v, x, frames=y.shape[1], mutable="intermediates")
    )
    pred, kept = predict(from_torch(model, state))
    close(pred, np.moveaxis(z["output"], 2, -1), 2e-5)
    for name, key in (("physical", "output_phys"), ("residual", "output_conv")):
        (part,) = kept["intermediates"][name]
        close(part[:, : x.shape[1]], np.moveaxis(z[key], 2, -1), 2e-5)


def test_phydnet_training(phydnet):
    z, state, model = phydnet
    x, y = clip_of(z)
    truth = jnp.concatenate([x, y], 1)[:, 1:]
    steps = truth.shape[1]

    def loss_of(variables, mask):
        pred, sown = model.apply(
            variables,
            x,
            frames=y.shape[1],
            train=True,
            target=y,
            sampling_mask=mask,
            mutable=["losses"],
        )
        # The official loss is the sum over steps of what is here their mean.
        (constraint,) = sown["losses"]["moments"]
        recon = steps * jnp.mean((pred - truth) ** 2)
        return recon + steps * constraint, (recon, steps * constraint)

    step = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    variables = from_torch(model, state)
    closed = jnp.zeros((2, y.shape[1] - 1))
    (loss, (recon, constraint)), grads = step(variables, closed)
    np.testing.assert_allclose(loss, z["loss"], rtol=1e-5)
    np.testing.assert_allclose(recon, z["loss_recon"], rtol=1e-5)
    np.testing.assert_allclose(constraint, z["loss_constraint"], rtol=1e-6)
    (taught, _), _ = step(variables, jnp.ones_like(closed))
    np.testing.assert_allclose(taught, z["loss_teacher"], rtol=1e-5)
    found = to_torch(model, grads)
    for key in [k for k in z.files if k.startswith("grad/")]:
        close(found[key[5:]], z[key], 1e-4)


def test_moments(phydnet):
    z, state, _ = phydnet
    filters = state["encoder.phycell.cell_list.0.F.conv1.weight"][:, 0]
    close(moments(jnp.asarray(filters)), z["moment0"], 1e-6)
