"""Fusion units: hard masks are strategies, equal function classes fold, time stays."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.errors import UserError
from stjax.layers.slots import hard_masks
from stjax.search.fuse import folded_strategy, folded_unit, fuse

DENSE = {"width": 8, "growth": 4, "blocks": (1, 1)}
FIELDS = {
    "densenet121_3d": DENSE,
    "general": DENSE | {"temporal_only": True},
    "fusion_resnext50": {
        "width": 8,
        "blocks": (1, 1),
        "groups": 2,
        "group_width": 32,
    },
    "fusion_mobilenetv2": {
        "width": 8,
        "stages": ((1, 8, 1, 2), (6, 8, 2, 1)),
        "last": 16,
    },
}
STRATEGIES = {
    "densenet121_3d": ("S", "S+ST", "ST"),
    "general": ("T", "S", "S+T"),
    "fusion_resnext50": ("S", "ST"),
    "fusion_mobilenetv2": ("ST", "S"),
}
X = jax.random.normal(jax.random.key(1), (2, 3, 32, 32, 3))


def network(name, **more):
    fields = {"num_classes": 3, "dropout": 0.0, **FIELDS[name], **more}
    return stjax.create_model("densenet121_3d" if name == "general" else name, **fields)


def made_up(model):
    """Variables away from where they are born, so that norms do something."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), X))
    rng = np.random.default_rng(0)

    def make(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype("f4")
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 25
        return (rng.standard_normal(leaf.shape) / fan_in**0.5).astype("f4")

    return jax.tree_util.tree_map_with_path(make, shapes)


def without(variables, model):
    """The variables that a network with fewer paths has."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), X))
    flat = flax.traverse_util.flatten_dict(variables)
    kept = {k: flat[k] for k in flax.traverse_util.flatten_dict(shapes)}
    assert len(kept) < len(flat)
    kept = flax.traverse_util.unflatten_dict(kept)
    assert jax.tree.map(jnp.shape, kept) == jax.tree.map(jnp.shape, shapes)
    return kept


def run(model, variables, **more):
    """Logits and new statistics, compiled without optimisation: it runs once."""

    def call(variables, masks):
        kept = ["batch_stats"]
        y = model.apply(variables, X, masks=masks, mutable=kept, **more)
        return y[0], y[1]["batch_stats"]

    quick = {"xla_backend_optimization_level": 0}
    return lambda masks: jax.jit(call, compiler_options=quick)(variables, masks)


@pytest.mark.parametrize("name", FIELDS)
def test_hard_mask_is_the_network_of_the_strategy(name):
    template, units = network(name), STRATEGIES[name]
    variables = made_up(template)
    chosen = template.clone(units=units)
    kept = without(variables, chosen)
    call = run(template, variables, train=True)
    masks = hard_masks(template.slots, units)
    masked, stats = call(masks)
    plain, own = run(chosen, kept, train=True)(None)
    np.testing.assert_allclose(masked, plain, atol=1e-5)
    for path, leaf in flax.traverse_util.flatten_dict(own).items():
        there = flax.traverse_util.flatten_dict(stats)[path]
        np.testing.assert_allclose(there, leaf, atol=1e-5)
    assert np.abs(masked - call(hard_masks(template.slots, "all"))[0]).max() > 1e-3


def test_masks_of_residual_blocks():
    """All kept: as without masks. Every clip may have its own. S+ST is an ST."""
    template = network("fusion_resnext50")
    variables = made_up(template)
    call = run(template, variables, train=False)
    first, second = (
        hard_masks(template.slots, units) for units in (("S+ST", "S"), "S+ST")
    )
    both = {name: np.stack([first[name], second[name]]) for name in first}
    masked = call(both)[0]
    whole = run(template, variables, train=False)(None)[0]
    np.testing.assert_allclose(masked[1], whole[1], atol=1e-5)
    assert np.abs(masked[0] - whole[0]).max() > 1e-3
    # One BN for the sum of two convolutions of one input.
    chosen = template.clone(units=("S+ST", "S"))
    fused, less = fuse(chosen, without(variables, chosen))
    assert fused.units == ("ST", "S")
    np.testing.assert_allclose(
        run(fused, less, train=False)(None)[0][0], masked[0], atol=1e-5
    )
    shapes = jax.eval_shape(lambda: fused.init(jax.random.key(0), X))
    assert jax.tree.map(jnp.shape, less) == jax.tree.map(jnp.shape, shapes)


def test_what_folds():
    slot = network("fusion_resnext50").slots[0]
    assert [folded_unit(slot, u) for u in ("S", "ST", "S+ST")] == ["S", "ST", "ST"]
    for name in ("densenet121_3d", "fusion_mobilenetv2"):
        slots = network(name).slots
        assert folded_strategy(slots, "S+ST") == ("S+ST",) * len(slots)
        with pytest.raises(UserError, match="cannot be fused"):
            fuse(network(name), {"params": {}})


@pytest.mark.parametrize("name", ["densenet121_3d", "fusion_mobilenetv2"])
def test_only_units_mix_time(name):
    """DenseNet's stem spans 5 frames and its pool 3, whatever the units are."""
    x = jax.random.normal(jax.random.key(2), (1, 9, 32, 32, 3))
    changed = x.at[:, 0].add(1.0)
    reach = {"densenet121_3d": 3, "fusion_mobilenetv2": 0}[name]
    template = network(name)
    variables = made_up(template)

    @jax.jit
    def features(x, masks):
        return template.apply(variables, x, masks=masks, method="features")

    moved = {}
    for unit in ("S", "ST", "S+ST"):
        masks = hard_masks(template.slots, unit)
        gap = jnp.abs(features(x, masks) - features(changed, masks)).max((0, 2, 3, 4))
        moved[unit] = np.flatnonzero(np.asarray(gap)).max()
    assert moved["S"] == reach
    # Each of the slots reaches a frame further.
    assert moved["ST"] == moved["S+ST"] == min(8, reach + len(template.slots))


@pytest.mark.parametrize(
    ("units", "masks", "message"),
    [
        ("TS", None, "unknown unit of .*denselayer1 'TS'; did you mean"),
        (("S", "ST"), None, "units names 2 units for 3 slots"),
        ("T", None, "unit of features/denseblock1/denselayer1"),
        ("all", {"nowhere": np.ones(2)}, "slot in masks"),
        (
            "all",
            {"features/transition1": np.ones(3)},
            r"the mask of features/transition1 has the shape \(3,\); expected \[P\]",
        ),
    ],
)
def test_bad_units_and_masks(units, masks, message):
    model = network("densenet121_3d", units=units)
    with pytest.raises(UserError, match=message) as error:
        jax.eval_shape(lambda: model.init(jax.random.key(0), X, masks=masks))
    assert "\n" not in str(error.value)
