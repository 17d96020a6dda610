"""Every translator of SimVP: parameters, parity with OpenSTL, conversion, errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import stjax
from stjax.convert import from_torch, to_torch
from stjax.errors import UserError
from stjax.layers.incepu import GInception
from stjax.layers.non_local import NonLocalBlock
from stjax.layers.translators import TRANSLATORS
from stjax.sharding.mesh import batch_sharding, make_mesh

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

_SEEN = ("enc", "hid")  # modules whose results are compared


# Compiles faster than the default generator.
CHEAP_KEY = jax.random.key(0, impl="unsafe_rbg")


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
            capture_intermediates=lambda m, f: f == "__call__" and m.name in _SEEN,
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


def test_initialisation_is_that_of_the_originals():
    """Deviations in closed form; constants exactly."""

    @jax.jit
    def init():
        clip = jnp.zeros((1, 4, 8, 8, 1))
        fields = {**TINY, "hid_s": 32, "hid_t": 128}  # no reductions
        return [
            create(name, **fields).init(jax.random.key(0), clip)["params"]["hid"][
                "enc_1"
            ]
            for name in ("gsta", "tau", "vit", "convnext")
        ]

    gsta, tau, vit, convnext = (p["block"] for p in init())
    d = 128

    def deviation(x, expected, tolerance=0.05):
        assert abs(float(x.std()) / expected - 1) < tolerance
        return float(jnp.abs(x).max())

    deviation(gsta["attn"]["proj_1"]["kernel"], (2 / d) ** 0.5)
    deviation(gsta["attn"]["spatial_gating_unit"]["conv0"]["kernel"], (2 / 25) ** 0.5)
    deviation(gsta["mlp"]["dwconv"]["dwconv"]["kernel"], (2 / 9) ** 0.5)
    assert not gsta["attn"]["proj_1"]["bias"].any()
    bound = d**-0.5  # PyTorch's default in TAU's attention
    for leaf in ("kernel", "bias"):
        assert deviation(tau["attn"]["proj_1"][leaf], bound / 3**0.5, 0.2) <= bound
    # timm's trunc_normal_ is not cut at two deviations.
    assert deviation(vit["attn"]["qkv"]["kernel"], 0.02) > 0.06
    assert not vit["attn"]["qkv"]["bias"].any()
    np.testing.assert_array_equal(convnext["gamma"], np.float32(1e-6))
    np.testing.assert_array_equal(gsta["layer_scale_1"], np.float32(1e-2))


def test_non_local_is_the_identity_at_birth():
    block = NonLocalBlock(mlp_ratio=2.0)
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 8)).astype(np.float32)

    @jax.jit
    def run(x):
        variables = block.init(CHEAP_KEY, x, train=False)
        y, new = block.apply(variables, x, train=True, mutable=["batch_stats"])
        return y, block.apply({**variables, **new}, x, train=False)

    for y in run(x):
        np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize(
    "name,clip,fields,message",
    [
        ("gst", (2, 8, 8, 1), {}, "did you mean 'gsta'"),
        ("swin", (2, 20, 28, 1), {}, "cannot cut a latent map of 10x14"),
        ("hornet", (2, 8, 8, 1), {"hid_t": 12}, "'hornet' needs widths"),
        ("moga", (2, 8, 8, 1), {"hid_t": 12}, "'moga' needs widths"),
        ("vit", (2, 8, 8, 1), {"hid_t": 12}, "8 attention heads need a width"),
        ("incepu", (2, 8, 8, 1), {"hid_s": 2, "hid_t": 32}, "'incepu' needs"),
        ("tau", (2, 9, 8, 1), {}, "divisible by 2.*pad_sides"),
        ("tau", (8,), {}, "expected a clip"),
    ],
)
def test_errors(name, clip, fields, message):
    with pytest.raises(UserError, match=message):
        shapes(create(name, **{**TINY, **fields}), clip)


@pytest.mark.parametrize(
    "name,born,other,message",
    [
        ("mlpmixer", (16, 16), (16, 24), "weights for 64 positions, got 8x12"),
        ("swin", (16, 16), (14, 14), "window of 4, the frames need 7"),
    ],
)
def test_translators_of_one_size_say_so(name, born, other, message):
    model = create(name, **TINY)
    variables = shapes(model, (2, *born, 1))
    with pytest.raises(UserError, match=message):
        jax.eval_shape(model.apply, variables, jnp.zeros((1, 2, *other, 1)))


def test_incepu_gathers_nothing_under_data_parallelism():
    """XLA's own grouped convolution would gather the whole batch on every device."""
    mesh = make_mesh()
    block = GInception(hidden=8, features=8)
    x = jnp.zeros((8, 4, 4, 8))

    def loss(params, x):
        return jnp.square(block.apply({"params": params}, x)).sum()

    params = jax.eval_shape(lambda: block.init(jax.random.key(0), x))["params"]
    replicated = NamedSharding(mesh, PartitionSpec())
    params = jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=replicated), params
    )
    x = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(mesh, x.shape))
    with jax.set_mesh(mesh):  # as the training loop does
        text = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile().as_text()
    assert "all-reduce" in text  # the gradients of the parameters
    assert "all-gather" not in text


@pytest.mark.parametrize("name", TRANSLATORS)
def test_bfloat16_and_other_lengths_and_channels(name):
    """Activations keep the compute dtype; parameters and predictions are float32."""
    fields = {**TINY, "dtype": jnp.bfloat16, "t_out": 3, "out_channels": 2}
    model = create(name, **fields)
    x = jnp.zeros((1, 2, 16, 16, 1))
    variables = shapes(model, x.shape[1:])
    y, seen = jax.eval_shape(
        lambda v: model.apply(
            v,
            x,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            capture_intermediates=lambda m, f: (
                f == "__call__" and m.path[:1] == ("hid",)
            ),
            mutable=["intermediates", "batch_stats"],
        ),
        variables,
    )
    assert y.shape == (1, 3, 16, 16, 2) and y.dtype == jnp.float32
    assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    inner = {v.dtype for v in jax.tree.leaves(seen["intermediates"])}
    assert inner == {jnp.dtype("bfloat16")}
