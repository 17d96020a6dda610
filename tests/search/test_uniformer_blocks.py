"""UniFormer with a choice of local or global blocks."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.errors import UserError
from stjax.layers.slots import hard_masks

FIELDS = {
    "depth": (1, 1, 1, 1),
    "embed_dim": (8, 8, 16, 16),
    "head_dim": 8,
    "num_classes": 3,
    "mlp_ratio": 2.0,
}
X = np.random.default_rng(0).random((2, 2, 32, 32, 3), np.float32)
STRATEGIES = ("LGLG", "GLGL")
QUICK = {"xla_backend_optimization_level": 0}


def shapes(model):
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda key: model.init(key, X), key)


def flat(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


def apply(model, variables, **kw):
    return np.asarray(jax.jit(model.apply, compiler_options=QUICK)(variables, X, **kw))


@pytest.fixture(scope="module")
def template():
    model = stjax.create_model("uniformer_mixed", **FIELDS)
    rng = np.random.default_rng(1)

    def value(leaf):
        v = np.abs(rng.normal(0, 0.3, leaf.shape)) + 0.05
        return np.float32(v * rng.choice([-1, 1], v.shape) if v.ndim > 1 else v)

    return model, jax.tree.map(value, shapes(model))


def part(variables, network):
    have, wanted = flat(variables), flat(shapes(network))
    assert all(have[k].shape == v.shape for k, v in wanted.items())
    return flax.traverse_util.unflatten_dict({k: have[k] for k in wanted}, sep="/")


def test_hard_masks_are_the_strategy_network(template):
    """A strategy for each clip: one run of the template, a run of each network."""
    model, variables = template
    masks = [hard_masks(model.slots, tuple(strategy)) for strategy in STRATEGIES]
    masks = jax.tree.map(lambda *rows: jnp.stack(rows), *masks)
    found = apply(model, variables, masks=masks)
    for i, strategy in enumerate(STRATEGIES):
        network = model.clone(units=tuple(strategy))
        expected = apply(network, part(variables, network))[i]
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_published_stages_are_a_strategy(template):
    """LLGG by blocks is the ordinary network, whose names have no L and no G."""
    model, variables = template
    network = model.clone(units=tuple("LLGG"))
    variables = part(variables, network)
    ordinary = stjax.create_model("uniformer_s", **FIELDS)
    renamed = {
        k.replace("/L/", "/").replace("/G/", "/"): v for k, v in flat(variables).items()
    }
    assert renamed.keys() == flat(shapes(ordinary)).keys()
    renamed = flax.traverse_util.unflatten_dict(renamed, sep="/")
    np.testing.assert_allclose(
        apply(network, variables), apply(ordinary, renamed), rtol=1e-6, atol=1e-6
    )


def test_parameters_of_blocks(template):
    """By hand: width 16, MLP 32, kernel 5."""
    d, hidden = 16, 32
    embedding, mlp = 27 * d + d, 2 * d * hidden + d + hidden
    norms = 4 * d
    local = embedding + norms + mlp + 2 * (d * d + d) + 125 * d + d
    whole = embedding + norms + mlp + 4 * d * d + 4 * d
    block = template[1]["params"]["blocks3_0"]
    sizes = {k: sum(v.size for v in jax.tree.leaves(block[k])) for k in "LG"}
    assert sizes == {"L": local, "G": whole}


def test_features_take_masks(template):
    model, variables = template
    masks = hard_masks(model.slots, "L")
    features = jax.eval_shape(
        lambda v: model.apply(v, X, masks=masks, method="features"), variables
    )
    assert features.shape == (2, 1, 1, 1, 16)
    assert stjax.create_model("uniformer_s").slots == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"units": "X"}, "unit of blocks1_0"),
        ({"units": ("L", "G")}, "2 units for 4 slots"),
        ({"scan": True}, "set scan to False"),
        ({"head_dim": 16}, "does not divide the 8 channels"),
    ],
)
def test_bad_fields(fields, message):
    model = stjax.create_model("uniformer_mixed", **FIELDS | fields)
    with pytest.raises(UserError, match=message) as error:
        shapes(model)
    assert "\n" not in str(error.value)


def test_only_global_blocks_need_heads():
    units = tuple("LLGG")
    fields = FIELDS | {"head_dim": 16, "units": units}
    assert shapes(stjax.create_model("uniformer_mixed", **fields))
