"""The searches over units of several papers: their size, and a real step of each."""

import jax
import numpy as np
import pytest

from stjax.config import config_module, load_config, validate
from stjax.data.base import ClipSpec
from stjax.data.motion_files import Counts, write_motion_clips
from stjax.macs import model_macs
from stjax.search.space import create_space
from stjax.sharding.mesh import put_batch
from stjax.training import inputs
from stjax.training.setup import prepare
from stjax.training.state import build_model, count_params, create_state, init_variables

CLIPS = ClipSpec(5, 5, 32, 32, channels=("c0",))


def size(config, spec):
    model = build_model(config, spec)
    shapes = jax.eval_shape(lambda: init_variables(model, spec, 0))
    return count_params(shapes["params"])


def test_prediction_space():
    config = load_config("fusion/moving_digits")
    space = create_space(config, CLIPS)
    assert space.size == 7**4
    tau = load_config("tau/moving_digits")
    plain = load_config("fusion/moving_digits:plain")
    assert plain.model.units == "tau" and plain.search.gate is None
    expected = size(tau, CLIPS)
    assert expected == size(plain, CLIPS) == space.cost(("tau",) * 4).params
    gates = 7 * 4
    assert size(config, CLIPS) > expected + gates


def test_what_the_space_costs_is_what_a_network_costs():
    config = config_module("fusion/moving_digits").miniature()
    spec = ClipSpec(2, 2, 16, 16, channels=("c0",))
    space = create_space(config, spec)
    for strategy in (("tau", "gsta"), ("local", "global"), ("non_local", "tau_static")):
        plain = config.copy_and_resolve_references()
        with plain.unlocked():
            plain.search.gate, plain.model.units = None, strategy
        model = build_model(plain, spec)
        assert space.cost(strategy).params == size(plain, spec)
        assert space.cost(strategy).macs == model_macs(model, spec.input_shape)


def made_up_variables(setup):
    """Weights without the model's initialiser, which would take long to compile."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_variables(setup.model, setup.spec, 0))

    def make(path, leaf):
        ones = path[-1].key in ("scale", "var")
        return ones + 0.05 * rng.standard_normal(leaf.shape, np.float32)

    return jax.tree_util.tree_map_with_path(make, shapes)


def some_batch(config, setup):
    dataset = inputs.make_dataset(config, setup.sources["train"], train=True)
    with inputs.batches(config, dataset) as batches:
        return next(batches)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return str(write_motion_clips(folder / "clips", counts=Counts(4, 4, 4)))


def test_blocks_are_traced_with_their_data(clips):
    """A step of the miniature; to compile it would take long."""
    config = config_module("fusion/uniformer_blocks").miniature()
    validate(config)
    config.data.path = clips
    setup = prepare(config)
    batch = some_batch(config, setup)
    shapes = jax.eval_shape(lambda: init_variables(setup.model, setup.spec, 0))
    with jax.set_mesh(setup.mesh):
        state = jax.eval_shape(lambda v: create_state(v, setup.tx), shapes)
        after, metrics = jax.eval_shape(setup.train_step.__call__, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics["loss"].shape == ()
    assert len(state.params["gates"]) == len(setup.model.slots) == 4
    assert create_space(load_config("fusion/uniformer_blocks"), setup.spec).size == 32


def test_prediction_takes_a_step():
    config = config_module("fusion/moving_digits").miniature()
    validate(config)
    setup = prepare(config)
    batch = some_batch(config, setup)
    quick = {"xla_backend_optimization_level": 0}
    with jax.set_mesh(setup.mesh):
        state = create_state(made_up_variables(setup), setup.tx)
        step = jax.jit(setup.train_step.__call__, compiler_options=quick)
        after, metrics = jax.device_get(step(state, put_batch(setup.mesh, batch)))
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    gates = jax.device_get(state.params)["gates"]
    moved = [np.abs(after.params["gates"][k] - v).max() for k, v in gates.items()]
    assert len(moved) == len(setup.model.slots) and min(moved) > 0
