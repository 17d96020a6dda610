"""Every translator of SimVP: parameters, parity with OpenSTL, conversion, errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.convert import from_torch, to_torch
from stjax.layers.translators import TRANSLATORS

MNIST = {"hid_s": 64, "hid_t": 512, "n_s": 4, "n_t": 8}
TAXI = {"hid_s": 32, "hid_t": 256, "n_s": 2, "n_t": 8}
TINY = {"hid_s": 8, "hid_t": 24, "n_s": 2, "n_t": 2}

# Measured on OpenSTL @ c74deb5 (ViT, Swin: with timm 0.6.11), Moving MNIST preset.
PARAMETERS = {
    "incepu": 57_946_113,
    "gsta": 46_769_665,
    "tau": 44_656_001,
    "uniformer": 44_834_817,
    "mlpmixer": 38_192_449,
    "convmixer": 3_919_361,
    "poolformer": 37_115_393,
    "convnext": 37_313_921,
    "van": 44_520_833,
    "hornet": 45_738_305,
    "moga": 46_777_065,
    "vit": 46_102_273,
    "swin": 46_105_409,
}


def create(translator, **fields):
    return stjax.create_model("simvp", translator=translator, **fields)


def shapes(model, shape):
    clip = jnp.zeros((1, *shape))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), clip))


def count(variables):
    return sum(v.size for v in jax.tree.leaves(variables["params"]))


def close(x, ref, rel=1e-5):
    assert np.abs(np.asarray(x) - ref).max() <= rel * np.abs(ref).max()


def state_dict(z):
    return {k[6:]: z[k] for k in z.files if k.startswith("param/")}


def test_every_translator_is_counted():
    assert PARAMETERS.keys() | {"non_local"} == TRANSLATORS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_moving_mnist(name):
    assert count(shapes(create(name, **MNIST), (10, 64, 64, 1))) == PARAMETERS[name]


@pytest.mark.parametrize(
    "name,expected", [("tau", 9_545_442), ("vit", 9_657_698), ("swin", 9_660_834)]
)
def test_parameters_taxibj(name, expected):
    assert count(shapes(create(name, **TAXI), (4, 32, 32, 2))) == expected


# The first five were computed as the others (tests/golden/README.md).
GOLDEN = [
    "simvp_convmixer",
    "simvp_hornet",
    "simvp_moga",
    "simvp_poolformer",
    "simvp_mlpmixer",
    "simvp_gsta",
    "simvp_incepu",
    "simvp_van",
    "simvp_convnext",
    "simvp_uniformer",
    "simvp_uniformer_red",
    "simvp_uniformer_smallvar",
    "baselines/simvp_vit",
    "baselines/simvp_vit_red",
    "baselines/simvp_swin",
]


@pytest.mark.parametrize("name", GOLDEN)
def test_parity_with_openstl(golden, name):
    z = golden(f"{name}.npz")
    c = json.loads(str(z["config_json"]))
    fields = {k.lower(): c[k] for k in ("hid_S", "hid_T", "N_S", "N_T")}
    model = create(c["model_type"], **fields)
    original = state_dict(z)
    variables = from_torch(model, original)

    @jax.jit
    def forward(variables, x):
        return model.apply(
            variables,
            x,
            capture_intermediates=lambda m, _: m.name in ("enc", "hid"),
            mutable=["intermediates"],
        )

    y, seen = forward(variables, np.moveaxis(z["input"], 2, -1))
    seen = {k: v["__call__"][0] for k, v in seen["intermediates"].items()}
    close(y, np.moveaxis(z["output"], 2, -1))
    latent, skip = seen["enc"]
    close(latent, np.moveaxis(z["inter/enc_latent"], 1, -1))
    close(skip, np.moveaxis(z["inter/enc_skip"], 1, -1))
    hid = z["inter/hid"]  # (B, T, hid_S, h, w)
    hid = hid.reshape(hid.shape[0], -1, *hid.shape[3:])
    close(seen["hid"], np.moveaxis(hid, 1, -1))

    back = to_torch(model, variables)
    constants = ("relative_position_index", "attn_mask")
    assert back.keys() == {k for k in original if not k.endswith(constants)}
    for key, value in back.items():
        np.testing.assert_array_equal(value, original[key], err_msg=key)
