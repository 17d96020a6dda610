"""PredFormer: parameters of every variant, parity, horizons, errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.convert import from_torch, to_torch
from stjax.errors import UserError
from stjax.layers.gated_transformer import GatedTransformer
from stjax.models.predformer import VARIANTS, positions

# (n_depth, exact parameters) of the published mmnist, taxibj, human and weather
# t2m models, in this order.
PARAMETERS = {
    "full": ((24, 25_285_952), (8, 8_434_976), (12, 12_725_696), (8, 5_272_848)),
    "facst": ((12, 25_286_464), (4, 8_435_488), (6, 12_726_208), (4, 5_273_360)),
    "facts": ((12, 25_286_464), (4, 8_435_488), (6, 12_726_208), (4, 5_273_360)),
    "binary_st": ((12, 25_297_728), (4, 8_438_560), (6, 12_731_328), (4, 5_276_432)),
    "binary_ts": ((12, 25_297_728), (4, 8_438_560), (6, 12_731_328), (4, 5_276_432)),
    "triplet_tst": ((8, 25_297_728), (2, 6_333_216), (4, 12_731_328), (2, 3_959_568)),
    "triplet_sts": ((8, 25_297_728), (2, 6_333_216), (4, 12_731_328), (2, 3_959_568)),
    "quad_tsst": ((6, 25_297_728), (2, 8_438_560), (3, 12_731_328), (2, 5_276_432)),
    "quad_stts": ((6, 25_297_728), (2, 8_438_560), (3, 12_731_328), (2, 5_276_432)),
}
CLIPS = ((10, 64, 64, 1), (4, 32, 32, 2), (4, 256, 256, 3), (12, 32, 64, 1))
FIELDS = ({}, {"patch_size": 4}, {}, {"patch_size": 4, "scale_dim": 2})
TINY = {"patch_size": 4, "dim": 8, "heads": 2, "dim_head": 4, "n_depth": 1}


# Compiles faster than the default generator.
CHEAP_KEY = jax.random.key(0, impl="unsafe_rbg")


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def create(**fields):
    return stjax.create_model("predformer", **fields)


def parameters(model, shape):
    clip = jnp.zeros((1, *shape))
    v = jax.eval_shape(lambda: model.init(jax.random.key(0), clip))
    return sum(p.size for p in jax.tree.leaves(v["params"]))


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters(variant):
    assert PARAMETERS.keys() == VARIANTS.keys()
    n_depth, expected = PARAMETERS[variant][1]
    model = create(variant=variant, n_depth=n_depth, **FIELDS[1])
    assert parameters(model, CLIPS[1]) == expected


@pytest.mark.parametrize("i", range(4))
def test_parameters_of_every_data_set(i):
    n_depth, expected = PARAMETERS["facts"][i]
    model = create(variant="facts", n_depth=n_depth, **FIELDS[i])
    assert parameters(model, CLIPS[i]) == expected


def test_default_is_the_published_moving_mnist_model():
    assert parameters(create(), CLIPS[0]) == 25_297_728


@pytest.mark.parametrize("name", ["full", "quad_tsst"])
def test_parity(golden, name):
    z = golden(f"baselines/predformer_{name}.npz")
    c = json.loads(str(z["config_json"]))
    kept = ("patch_size", "dim", "heads", "dim_head", "scale_dim", "depth")
    model = create(variant=name, n_depth=c["Ndepth"], **{k: c[k] for k in kept})
    original = {k[6:]: z[k] for k in z.files if k.startswith("param/")}
    variables = from_torch(model, original)
    y = jax.jit(model.apply)(variables, np.moveaxis(z["input"], 2, -1))
    ref = np.moveaxis(z["output"], 2, -1)
    assert np.abs(y - ref).max() <= 1e-5 * np.abs(ref).max()
    table = z["pos_embedding"]
    np.testing.assert_allclose(positions(*table.shape[1:])[None], table, atol=1e-6)
    back = to_torch(model, variables)
    assert back.keys() == original.keys()
    for key, value in original.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)


@pytest.mark.parametrize("variant", ["facst", "triplet_tst"])
def test_every_order_of_space_and_time(variant):
    """Against the transformers called one by one on tokens laid out by hand."""
    model = create(variant=variant, **TINY)
    t, n, d = 3, 2, 8
    clip = normal(1, t, 4, 8, 1)
    variables = jax.jit(model.init)(CHEAP_KEY, clip)
    p = variables["params"]
    block = {"heads": 2, "dim_head": 4, "hidden": 4 * d}
    block |= {"dropout": 0.0, "attn_dropout": 0.0, "drop_path_rate": 0.0}
    transformer = GatedTransformer(1, tuple(block.items()))

    def over(name, x):
        """Rows of x are batch entries, as the transformer sees them."""
        layer = p if variant == "facst" else p["blocks_0"]
        return transformer.apply({"params": layer[name]}, x, train=False)

    def linear(name, x):
        return x @ p[name]["kernel"] + p[name]["bias"]

    @jax.jit
    def by_hand():
        patches = clip[0, ..., 0].reshape(t, 4, 2, 4).swapaxes(1, 2).reshape(t, n, 16)
        x = linear("to_patch_embedding_1", patches) + positions(t, n, d)
        if variant == "facst":
            x = over("space_transformer", x)
            x = over("temporal_transformer", x.swapaxes(0, 1))  # [n, t, d] …
            x = x.reshape(t, n, d)  # … and not transposed back: the official quirk
        else:
            x = over("first_temporal_transformer", x.swapaxes(0, 1)).swapaxes(0, 1)
            x = over("space_transformer", x)
            x = over("last_temporal_transformer", x.swapaxes(0, 1)).swapaxes(0, 1)
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        y = linear("mlp_head_1", x).reshape(t, n, 4, 4).swapaxes(1, 2).reshape(t, 4, 8)
        return y, model.apply(variables, clip)[0, ..., 0]

    np.testing.assert_allclose(*by_hand(), atol=2e-6)


def test_horizons_sides_and_channels():
    model = create(variant="facts", pad_sides=True, **TINY)
    x = normal(2, 2, 6, 7, 2)
    variables = jax.jit(model.init)(CHEAP_KEY, x)

    @jax.jit
    def predict(x):
        y = model.apply(variables, x, frames=5)
        return y, model.apply(variables, x, frames=1), model.apply(variables, y[:, :2])

    y, first, again = predict(x)
    assert y.shape == (2, 5, 6, 7, 2)
    np.testing.assert_allclose(first, y[:, :1], atol=1e-6)
    np.testing.assert_allclose(again, y[:, 2:4], atol=1e-6)

    wide = create(out_channels=1, pad_sides=True, **TINY)
    shape = jax.eval_shape(lambda: wide.init_with_output(jax.random.key(0), x)[0])
    assert shape.shape == (2, 2, 6, 7, 1)


def test_rematerialisation_draws_the_same_dropout():
    block = {"heads": 2, "dim_head": 4, "hidden": 8}
    block |= {"dropout": 0.5, "attn_dropout": 0.5, "drop_path_rate": 0.5}
    x = normal(2, 3, 8)

    @jax.jit
    def gradients(key):
        def loss(params, remat):
            module = GatedTransformer(1, tuple(block.items()), remat)
            rngs = {"dropout": key}
            return module.apply({"params": params}, x, train=True, rngs=rngs)[0].sum()

        module = GatedTransformer(1, tuple(block.items()))
        params = module.init(key, x, train=False)["params"]
        return [jax.grad(loss)(params, how) for how in ("none", "full", "dots")]

    kept, *recomputed = gradients(CHEAP_KEY)
    assert max(jnp.abs(v).max() for v in jax.tree.leaves(kept)) > 0
    for other in recomputed:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), kept, other
        )


@pytest.mark.parametrize(
    "fields,shape,message",
    [
        ({"variant": "quad_tst"}, (2, 8, 8, 1), "did you mean 'quad_tsst'"),
        ({}, (2, 8, 12, 1), "divisible by 8.*pad_sides"),
        ({}, (1,), "expected a clip"),
        ({"n_depth": 0}, (2, 8, 8, 1), "at least 1"),
        ({"remat": "some"}, (2, 8, 8, 1), "unknown remat"),
    ],
)
def test_errors(fields, shape, message):
    with pytest.raises(UserError, match=message):
        parameters(create(**fields), shape)
