"""Time passes through the slots of the small recogniser, and nowhere else."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.errors import UserError
from stjax.layers.slots import hard_masks

MODEL = stjax.create_model("fusion_toy", num_classes=3)
X = jax.random.normal(jax.random.key(1), (2, 16, 6, 8, 1))


def moved(path, leaf):
    """Statistics and norms away from where they are born."""
    if leaf.ndim > 1:
        return leaf
    seed = sum(map(ord, jax.tree_util.keystr(path)))
    return leaf + np.random.default_rng(seed).uniform(0, 0.2, leaf.shape)


@pytest.fixture(scope="module")
def variables():
    made = jax.jit(MODEL.init)(jax.random.key(0), X)
    return jax.tree_util.tree_map_with_path(moved, made)


@pytest.fixture(scope="module")
def logits(variables):
    @jax.jit
    def run(x, masks):
        return MODEL.apply(variables, x, masks=masks)

    return lambda strategy, x=X: np.asarray(
        run(x, hard_masks(MODEL.slots, tuple(strategy)))
    )


@pytest.mark.parametrize("units", [("S", "ST", "S+ST", "S"), "ST"])
def test_hard_mask_is_the_network_of_the_strategy(variables, units):
    chosen = MODEL.clone(units=units)
    shapes = jax.eval_shape(lambda: chosen.init(jax.random.key(0), X))
    flat = flax.traverse_util.flatten_dict(variables)
    kept = {k: flat[k] for k in flax.traverse_util.flatten_dict(shapes)}
    assert len(kept) < len(flat)
    kept = flax.traverse_util.unflatten_dict(kept)
    assert jax.tree.map(jnp.shape, kept) == jax.tree.map(jnp.shape, shapes)
    masks = hard_masks(MODEL.slots, units)
    for train in (False, True):

        def run(model, weights, train=train, **more):
            found = model.apply(
                weights, X, train=train, mutable=["batch_stats"], **more
            )
            return found[0]

        np.testing.assert_allclose(
            run(chosen, kept), run(MODEL, variables, masks=masks), atol=1e-5
        )


def test_all_paths_by_default(variables, logits):
    plain = MODEL.apply(variables, X)
    np.testing.assert_allclose(logits(["S+ST"] * 4), plain, atol=1e-5)


def test_masks_of_single_examples(variables, logits):
    rows = [hard_masks(MODEL.slots, unit) for unit in ("S", "ST")]
    masks = jax.tree.map(lambda *m: np.stack(m), *rows)
    both = MODEL.apply(variables, X, masks=masks)
    for index, unit in enumerate(("S", "ST")):
        alone = logits([unit] * 4)[index]
        np.testing.assert_allclose(both[index], alone, atol=1e-5)


@pytest.mark.parametrize("strategy", [["S"] * 4, ["ST", "S", "S+ST", "S"]])
def test_time_is_a_circle(logits, strategy):
    late = jnp.roll(X, 5, 1)
    np.testing.assert_allclose(
        logits(strategy, late), logits(strategy), rtol=1e-4, atol=1e-5
    )


def test_spatial_units_do_not_see_the_order(logits):
    mixed = X[:, jax.random.permutation(jax.random.key(2), 16)]
    there, now = logits(["S"] * 4), logits(["S"] * 4, mixed)
    np.testing.assert_allclose(now, there, rtol=1e-4, atol=1e-5)
    seen = logits(["S", "S", "ST", "S"]) - logits(["S", "S", "ST", "S"], mixed)
    assert np.abs(seen).max() > 1e-3


def test_reach_in_time(variables):
    """Frame 8 depends on n frames before and after it, exactly."""

    @jax.jit
    @jax.grad
    def gradient(x, masks):
        y = MODEL.apply(variables, x, masks=masks, method="features")
        return jnp.square(y[:, 8]).sum()

    for layers in range(5):
        units = ["ST", "S+ST", "ST", "S+ST"][:layers] + ["S"] * (4 - layers)
        seen = gradient(X, hard_masks(MODEL.slots, units))
        seen = np.abs(seen).max((0, 2, 3, 4)) > 0
        expected = np.abs(np.arange(16) - 8) <= layers
        np.testing.assert_array_equal(seen, expected)


def test_bad_input(variables):
    with pytest.raises(UserError, match=r"even H and W, got \(2, 16, 5, 8, 1\)"):
        MODEL.apply(variables, X[:, :, :5])
    with pytest.raises(UserError, match="units names 3 units for 4 slots"):
        MODEL.clone(units=("S", "S", "ST")).init(jax.random.key(0), X)
    with pytest.raises(UserError, match="unit of block_0 'SS'"):
        MODEL.clone(units="SS").init(jax.random.key(0), X)
