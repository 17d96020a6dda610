"""UniFormer: exact sizes, parity with the authors' numbers, fields and errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.convert import from_torch
from stjax.errors import UserError
from stjax.macs import count_macs

# Exact, measured on the authors' code: by the number of classes, and divided.
PARAMETERS = {
    "s": {
        400: 21_400_400,
        600: 21_503_000,
        174: 21_284_462,
        101: 21_247_013,
        51: 21_221_363,
        "split": 27_847_504,
    },
    "b": {
        400: 49_813_200,
        600: 49_915_800,
        174: 49_697_262,
        101: 49_659_813,
        51: 49_634_163,
        "split": 65_405_136,
    },
}
PARTS = {  # of UniFormer-S
    "patch_embed1": 9_408,
    "blocks1": 154_560,
    "patch_embed2": 33_152,
    "blocks2": 739_840,
    "patch_embed3": 164_800,
    "blocks3": 9_935_360,
    "patch_embed4": 656_896,
    "blocks4": 9_500_160,
    "norm": 1_024,
    "head": 205_200,
}
GMACS = {  # of 16 frames of 224 pixels: model, split
    ("s", False): 41.66,
    ("s", True): 36.68,
    ("b", False): 96.55,
}
TINY = {
    "depth": (1, 1, 2, 1),
    "embed_dim": (8, 16, 32, 64),
    "head_dim": 16,
    "num_classes": 7,
}
# Compiles faster than the default generator.
CHEAP_KEY = jax.random.key(0, impl="unsafe_rbg")


def create(size="s", **fields):
    return stjax.create_model(f"uniformer_{size}", **fields)


def abstract(model, shape=(2, 32, 32, 3)):
    clip = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), clip)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def close(x, ref, rel):
    assert np.abs(np.asarray(x) - ref).max() <= rel * np.abs(ref).max()


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def clip(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def state_dict(z):
    return {k[6:]: z[k] for k in z.files if k.startswith("param/")}


@pytest.fixture(scope="module")
def tiny(golden):
    z = golden("uniformer_tiny_joint.npz")
    model = create(**TINY)
    return z, model, from_torch(model, state_dict(z))


@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters_and_macs(size):
    expected = dict(PARAMETERS[size])
    both = {split: abstract(create(size, split=split)) for split in (True, False)}
    assert count(both[True]["params"]) == expected.pop("split")
    for split, variables in both.items():
        if (size, split) in GMACS:
            assert macs(size, split, variables) == GMACS[size, split]
    variables = both[False]
    params = variables["params"]
    assert count(params) == expected[400]
    for classes, number in expected.items():
        tiny = abstract(create(**{**TINY, "num_classes": classes}))["params"]["head"]
        assert tiny["kernel"].shape == (64, classes)
        assert count(params) + (512 + 1) * (classes - 400) == number
    if size == "s":
        found = dict.fromkeys(PARTS, 0)
        for name, tree in params.items():
            found[name.partition("_")[0] if "blocks" in name else name] += count(tree)
        assert found == PARTS
        # The authors' 3,855 buffers are these and 15 counters.
        assert count(variables["batch_stats"]) == 3_855 - 15


def macs(size, split, variables):
    model = create(size, split=split)
    x = jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.float32)
    return round(count_macs(lambda v, x: model.apply(v, x), variables, x) / 1e9, 2)


@pytest.mark.parametrize("name", ["joint", "split", "std", "smallvar"])
def test_parity(golden, name):
    z = golden(f"uniformer_tiny_{name}.npz")
    model = create(**TINY, split=name == "split", std=name == "std")
    variables = from_torch(model, state_dict(z))
    y = jax.jit(model.apply)(variables, channels_last(z["input"]))
    assert y.dtype == jnp.float32
    close(y, z["output"], 1e-5)


def test_full_size(golden):
    from test_convert import recipe_value

    z = golden("recipe_uniformer_s_k400.npz")
    seed = int(z["seed"])
    keys = json.loads(str(z["keys_json"]))
    model = create()
    state = {k: recipe_value(k, shape, seed, []) for k, shape in keys}
    variables = from_torch(model, state)
    assert count(variables["params"]) == int(z["num_parameters"]) == 21_400_400
    x = np.random.default_rng(seed).standard_normal(tuple(z["input_shape"]))
    y = jax.jit(model.apply)(variables, channels_last(x.astype(np.float32)))
    close(y, z["output"], 2e-5)


def test_features_are_what_the_head_sees(tiny):
    z, model, variables = tiny
    x = channels_last(z["input"])
    maps = jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, x)
    assert maps.shape == (2, 4, 2, 2, 64)
    head = variables["params"]["head"]
    close(maps.mean((1, 2, 3)) @ head["kernel"] + head["bias"], z["output"], 1e-5)
    without = {**variables, "params": {**variables["params"]}}
    del without["params"]["head"]
    jax.eval_shape(lambda v: model.apply(v, x, method="features"), without)


def test_odd_sizes_lose_their_rest(tiny):
    """The authors' sizes: 112 pixels become 28, 14, 7 and 3."""
    _, model, variables = tiny
    x = jax.ShapeDtypeStruct((1, 7, 112, 63, 3), jnp.float32)
    maps = jax.eval_shape(lambda x: model.apply(variables, x, method="features"), x)
    assert maps.shape == (1, 4, 3, 1, 64)


@pytest.fixture(scope="module")
def smaller():
    """A model and weights whose gradient compiles quickly; its stages have a block."""
    fields = {**TINY, "depth": (1, 1, 1, 1), "embed_dim": (4, 4, 8, 8), "head_dim": 4}
    model = create(**fields, kernel_size=1, dpe=False, drop_path_rate=0.2)
    rng = np.random.default_rng(0)

    def make(leaf):
        return 0.1 * rng.standard_normal(leaf.shape, np.float32)

    variables = jax.tree.map(make, abstract(model))
    stats = jax.tree.map(np.ones_like, variables["batch_stats"])
    return model, {**variables, "batch_stats": stats}


def loss(model, variables, x):
    rngs = {"dropout": CHEAP_KEY}

    def of_params(params):
        v = {**variables, "params": params}
        y, _ = model.apply(v, x, train=True, mutable=["batch_stats"], rngs=rngs)
        return jnp.square(y).mean()

    return of_params


def test_remat_changes_nothing(smaller):
    model, variables = smaller
    x = clip(2, 2, 32, 32, 3)

    def gradient(**fields):
        of_params = loss(model.clone(**fields), variables, x)
        quick = {"xla_backend_optimization_level": 0}
        gradient = jax.jit(jax.value_and_grad(of_params), compiler_options=quick)
        return gradient(variables["params"])

    value, grads = gradient()
    largest = max(np.abs(g).max() for g in jax.tree.leaves(grads))
    for remat in ("full", "dots"):
        other_value, other = gradient(remat=remat, remat_blocks=(1, 0, 1, 1))
        np.testing.assert_allclose(value, other_value, rtol=1e-6)
        for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * largest)


def test_remat_of_some_blocks(smaller):
    model, variables = smaller

    def count(**fields):
        of_params = loss(model.clone(**fields), variables, clip(1, 2, 32, 32, 3))
        jaxpr = jax.make_jaxpr(of_params)(variables["params"])
        return str(jaxpr).count("= remat")

    assert count() == 0
    assert count(remat="full", remat_blocks=(0, 1, 1, 0)) == 2
    assert count(remat="full") == 4


@pytest.mark.parametrize("stages", ["LLLL", "LLLG", "LGGG", "GGGG"])
def test_stage_types(stages):
    fields = {**TINY, "depth": (1, 1, 1, 1), "head_dim": 8}
    model = create(**fields, stages=stages)
    params = abstract(model)["params"]
    for i, kind in enumerate(stages):
        block = params[f"blocks{i + 1}_0"]
        assert ("conv1" in block) == (kind == "L")
        assert ("qkv" in block["attn"]) == (kind == "G")


def test_switches():
    with_dpe = abstract(create(**TINY))["params"]
    without = abstract(create(**TINY, dpe=False))["params"]
    # 27 weights and a bias for every channel of every block.
    dpe = 28 * (8 + 16 + 2 * 32 + 64)
    assert count(with_dpe) - count(without) == dpe
    nine = abstract(create(**TINY, kernel_size=9))["params"]
    assert count(nine) - count(with_dpe) == (9**3 - 5**3) * (8 + 16)


def test_drop_path_rises_linearly():
    model = create(depth=(1, 1, 2, 1), drop_path_rate=0.4).bind({})
    stages = (getattr(model, f"blocks{i}") for i in range(1, 5))
    rates = [block.drop_path_rate for stage in stages for block in stage.values()]
    np.testing.assert_allclose(rates, [0.0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"head_dim": 48}, "head_dim 48 does not divide the 32"),
        ({"stages": "LLXG"}, "stages"),
        ({"stages": "LLG"}, "4 stages"),
        ({"kernel_size": 4}, "odd"),
        ({"remat": "ful"}, "did you mean 'full'"),
        ({"remat_blocks": (1, 2)}, "each of the 4"),
    ],
)
def test_fields_that_cannot_work(fields, words):
    with pytest.raises(UserError, match=words):
        abstract(create(**{**TINY, **fields}))


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (8, 31, 64, 3), (8, 64, 3)])
def test_clips_that_are_too_small(shape):
    with pytest.raises(UserError, match="needs clips"):
        abstract(create(**TINY), shape)


def test_bfloat16(smaller):
    model, variables = smaller
    x = clip(2, 2, 32, 32, 3)
    y = jax.jit(model.apply)(variables, x)
    z = jax.jit(model.clone(dtype=jnp.bfloat16).apply)(variables, x)
    assert z.dtype == jnp.float32
    close(z, y, 5e-2)
