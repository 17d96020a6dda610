"""SimVP with a choice of mixer a block: templates, strategies, the ordinary models."""

import functools
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.errors import UserError
from stjax.layers.mixed import MixedBlock
from stjax.layers.slots import hard_masks
from stjax.layers.tau import TAUBlock

QUICK = {"xla_backend_optimization_level": 0}
FIELDS = {"hid_s": 4, "hid_t": 16, "n_s": 2, "n_t": 3, "mlp_ratio": 2.0}
X = np.random.default_rng(0).random((3, 2, 16, 16, 1), np.float32)
STRATEGIES = (  # every unit, and two blocks of one
    ("tau_static", "gsta", "global"),
    ("tau_dynamic", "local", "non_local"),
    ("gsta", "tau", "tau"),
)


def shapes(model):
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda key: model.init(key, X), key)


def shaken(variables):
    """Like these, but with nothing that is zero or one at birth; variances positive."""
    rng = np.random.default_rng(1)
    leaves, tree = jax.tree.flatten(variables)
    leaves = [np.abs(rng.normal(0, 0.3, v.shape)) + 0.05 for v in leaves]
    leaves = [v * rng.choice([-1, 1], v.shape) if v.ndim > 1 else v for v in leaves]
    return jax.tree.unflatten(tree, [np.float32(v) for v in leaves])


def apply(model, variables, **kw):
    run = jax.jit(model.apply, compiler_options=QUICK)
    return np.asarray(run(variables, X, **kw))


def part(variables, wanted):
    """The leaves that a network has, by name."""
    have = flax.traverse_util.flatten_dict(variables)
    flat = flax.traverse_util.flatten_dict(wanted)
    assert {k: v.shape for k, v in flat.items()}.items() <= {
        k: v.shape for k, v in have.items()
    }.items()
    return flax.traverse_util.unflatten_dict({k: have[k] for k in flat})


@pytest.fixture(scope="module")
def template():
    model = stjax.create_model("simvp_mixed", **FIELDS)
    return model, shaken(shapes(model))


def test_hard_masks_are_the_strategy_network(template):
    """A strategy for each clip: one run of the template, a run of each network."""
    model, variables = template
    masks = [hard_masks(model.slots, strategy) for strategy in STRATEGIES]
    masks = jax.tree.map(lambda *rows: jnp.stack(rows), *masks)
    found = apply(model, variables, masks=masks)
    for i, strategy in enumerate(STRATEGIES):
        network = model.clone(units=strategy)
        alone = part(variables, shapes(network))
        expected = apply(network, alone)[i]
        assert np.ptp(expected) > 0.02
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-2


def ordinary_name(name, unit):
    name = name.replace(f"layer_scale_1_{unit}/scale", "layer_scale_1")
    return re.sub(rf"(^|/block/){unit}/", r"\1attn/", name)


@pytest.mark.parametrize("unit", ["tau", "gsta"])
def test_one_unit_is_the_ordinary_translator(template, unit):
    model, variables = template
    network = model.clone(units=unit)
    variables = part(variables, shapes(network))
    ordinary = stjax.create_model("simvp", translator=unit, **FIELDS)
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    renamed = {ordinary_name(k, unit): v for k, v in flat.items()}
    renamed = flax.traverse_util.unflatten_dict(renamed, sep="/")
    assert jax.tree.map(jnp.shape, renamed) == jax.tree.map(
        jnp.shape, flax.core.unfreeze(shapes(ordinary))
    )
    np.testing.assert_allclose(
        apply(network, variables), apply(ordinary, renamed), rtol=1e-6, atol=1e-6
    )


def test_tau_is_born_as_the_ordinary_one():
    """The same initialisers: spreads agree where the names are others."""
    key, x = jax.random.key(0, impl="unsafe_rbg"), jnp.zeros((1, 4, 4, 64))
    born = []
    for block in (MixedBlock(("tau",)), TAUBlock()):
        init = functools.partial(block.init, train=False)
        params = jax.jit(init, compiler_options=QUICK)(key, x)["params"]
        born.append(flax.traverse_util.flatten_dict(params, sep="/"))
    for name, value in born[0].items():
        other = born[1][ordinary_name(name, "tau")]
        if value.size > 500:
            np.testing.assert_allclose(value.std(), other.std(), rtol=0.15)
        elif value.ndim == 1:  # norms and scales; zero biases of the MLP
            assert np.ptp(value) == 0 or "tau/" in name or "dwconv" in name
            np.testing.assert_allclose(value.mean(), other.mean(), atol=0.05)


def unit_sizes(d):
    """Parameters of the units at width d, by hand; a layer scale comes to each."""
    attention = 25 * d + d + 49 * d + d  # depthwise 5x5 and 7x7
    pointwise = d * d + d
    squeeze = 2 * d * (d // max(d // 16, 4))
    sizes = {
        "tau_static": 2 * pointwise + attention + pointwise,
        "tau_dynamic": 2 * pointwise + squeeze,
        "tau": 2 * pointwise + attention + pointwise + squeeze,
        "gsta": 2 * pointwise + attention + 2 * pointwise,
        "local": 10 * d + 26 * d + 2 * pointwise,
        "global": 10 * d + 4 * pointwise,
        "non_local": 3 * (d * d // 2 + d // 2) + d * d // 2 + d + 2 * d,
    }
    return {unit: size + d for unit, size in sizes.items()}


def test_parameters_of_units():
    fields = FIELDS | {"n_t": 2}
    model = stjax.create_model("simvp_mixed", **fields)

    def size(units):
        tree = shapes(model.clone(units=units))["params"]["hid"]["enc_1"]["block"]
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    expected = unit_sizes(16)  # the second block has the width hid_t
    norms, scale, mlp = 4 * 16, 16, 2 * 16 * 32 + 16 + 32 + 10 * 32
    for unit, own in expected.items():
        assert size(unit) == own + norms + scale + mlp, unit
    shared = expected["tau_static"] + expected["tau_dynamic"]  # both are in tau
    rest = sum(expected.values()) - shared
    assert size("all") == rest + norms + scale + mlp


def test_slots_name_all_modules(template):
    model, variables = template
    block = variables["params"]["hid"]["enc_1"]["block"]
    own = {"norm1", "norm2", "mlp", "layer_scale_2"}
    named = {m for _, used in model.slots[1].modules for m in used}
    assert {name.split("/")[0] for name in named} == block.keys() - own
    assert model.slots[1].name == "hid/enc_1/block"
    flat = flax.traverse_util.flatten_dict(block, sep="/")
    for name in named:
        assert any(leaf.startswith(f"{name}/") for leaf in flat), name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"units": "taus"}, "did you mean 'tau'"),
        ({"units": ("tau", "gsta")}, "2 units for 3 slots"),
        ({"scan": True}, "scan False"),
        ({"translator": "tau"}, "translator has to be 'mixed'"),
        ({"hid_s": 6, "units": "global"}, "divisible by 8"),
    ],
)
def test_bad_fields(fields, message):
    model = stjax.create_model("simvp_mixed", **FIELDS | fields)
    with pytest.raises(UserError, match=message) as error:
        shapes(model)
    assert "\n" not in str(error.value)
