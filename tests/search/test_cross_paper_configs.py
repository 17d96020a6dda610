"""The searches over units of several papers: their size, and a real step of each."""

import jax
import numpy as np
import pytest

from stjax.config import config_module, load_config, validate
from stjax.data.base import ClipSpec, LabelSpec
from stjax.data.motion_files import Counts, write_motion_clips
from stjax.macs import model_macs
from stjax.search.space import create_space
from stjax.sharding.mesh import put_batch
from stjax.training import inputs
from stjax.training.setup import prepare
from stjax.training.state import build_model, count_params, init_variables

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


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return str(write_motion_clips(folder / "clips", counts=Counts(4, 4, 4)))


@pytest.mark.parametrize("name", ["moving_digits", "uniformer_blocks"])
def test_miniature_takes_a_step(name, request):
    config = config_module(f"fusion/{name}").miniature()
    validate(config)
    if name == "uniformer_blocks":
        config.data.path = request.getfixturevalue("clips")
    setup = prepare(config)
    assert isinstance(setup.spec, LabelSpec) == (name == "uniformer_blocks")
    dataset = inputs.make_dataset(config, setup.sources["train"], train=True)
    with inputs.batches(config, dataset) as batches:
        batch = next(batches)
    quick = {"xla_backend_optimization_level": 0}
    with jax.set_mesh(setup.mesh):
        state = jax.jit(setup.fresh_state, compiler_options=quick)()
        step = jax.jit(setup.train_step.__call__, compiler_options=quick)
        after, metrics = jax.device_get(step(state, put_batch(setup.mesh, batch)))
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    gates = jax.device_get(state.params)["gates"]
    moved = [np.abs(after.params["gates"][k] - v).max() for k, v in gates.items()]
    assert len(moved) == len(setup.model.slots) and min(moved) > 0
