"""The published configs of the fusion search: what they say, and that they run."""

import jax
import numpy as np
import pytest
from miniatures import labelled_videos

from stjax.aot.specs import spec_of
from stjax.config import config_module, load_config, validate
from stjax.optim import create_optimizer
from stjax.search.fitting import warmup_config
from stjax.search.template import Template
from stjax.sharding.mesh import put_batch
from stjax.training import inputs
from stjax.training.setup import prepare
from stjax.training.state import build_model, create_state, init_variables

DATASETS = ("ssv1", "ssv2", "ucf101", "kinetics400")
# Table of the supplement and the launch scripts: the epochs with gates, after which
# the rate falls, rate, clips of a step, "k", N.
PHASES = {
    "ssv1": (90, (40, 60, 80), 0.005, 32, 250, 86_017),
    "ssv2": (90, (40, 60, 80), 0.005, 32, 50, 168_913),
    "ucf101": (90, (40, 60, 80), 0.005, 32, 50, None),
    "kinetics400": (110, (40, 80), 0.01, 64, 10, None),
}


@pytest.mark.parametrize("data", DATASETS)
def test_every_variant(data):
    for variant in config_module(f"fusion/{data}").get_config.variants:
        config = load_config(f"fusion/{data}:{variant}")
        model = build_model(config, spec_of(config))
        assert isinstance(model, Template) == variant.endswith("search")
        config = config_module(f"fusion/{data}").miniature(variant)
        validate(config)
        slots = build_model(config, spec_of(config)).slots
        units = config.model.get("units", "all")
        assert isinstance(units, str) or len(units) == len(slots)


@pytest.mark.parametrize("data", DATASETS)
def test_phases_as_published(data):
    config = load_config(f"fusion/{data}")
    epochs, falls, lr, batch, weight_reg, n_train = PHASES[data]
    search = config.search
    assert (config.train.epochs, config.data.batch) == (epochs, batch)
    assert (search.weight_reg, search.n_train) == (weight_reg, n_train)
    assert (search.gate, search.objective, search.p_init) == ("bernoulli", "code", 0.1)
    assert config.model.dropout == config.optim.weight_decay == 0
    for epoch in (0, *falls):
        tenths = sum(epoch >= fall for fall in falls)
        assert rate(config, epoch) == pytest.approx(lr / 10**tenths)
    fixed = load_config(f"fusion/{data}:s_st")
    assert (fixed.model.dropout, fixed.optim.weight_decay) == (0.5, 5e-4)
    assert fixed.train.epochs == (65 if data == "ssv2" else 50)


def rate(config, epoch):
    steps = {"total_steps": config.train.epochs, "steps_per_epoch": 1}
    tx = create_optimizer(**config.optim.to_dict(), **steps)
    return float(tx.values(epoch)["lr"])


def test_warm_up_is_the_training_of_s_st(files):
    """Both phases: the first is that of a fixed strategy with all paths."""
    config = load_config("fusion/ssv2")
    config.data.update(path=files, num_classes=2)
    first, fixed = warmup_config(config), load_config("fusion/ssv2:s_st")
    assert first.optim.to_dict() == fixed.optim.to_dict()
    assert first.train.epochs == fixed.train.epochs == 65
    assert first.model.dropout == fixed.model.dropout
    assert first.model.units in ("all", "S+ST") and first.search.gate is None


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Lists of every format and some frames of video."""
    root = tmp_path_factory.mktemp("labelled")
    labelled_videos(root)
    return str(root)


def prepared(name, files):
    """Setup and a real batch of a miniature."""
    name, _, variant = name.partition(":")
    config = config_module(name).miniature(variant or None)
    validate(config)
    config.data.path = files
    setup = prepare(config)
    dataset = inputs.make_dataset(config, setup.sources["train"], train=True)
    with inputs.batches(config, dataset) as batches:
        return setup, next(batches)


def made_up_variables(setup):
    """Weights without the model's initialiser, which would take long to compile."""
    shapes = jax.eval_shape(lambda: init_variables(setup.model, setup.spec, 0))
    rng = np.random.default_rng(0)

    def make(path, leaf):
        ones = path[-1].key in ("scale", "var")
        return ones + 0.05 * rng.standard_normal(leaf.shape, np.float32)

    return jax.tree_util.tree_map_with_path(make, shapes)


@pytest.mark.parametrize("name", ["fusion/kinetics400", "fusion/ssv2:mobilenetv2,opt"])
def test_miniatures_fit_their_data(name, files):
    setup, batch = prepared(name, files)
    shapes = jax.eval_shape(lambda: init_variables(setup.model, setup.spec, 0))
    with jax.set_mesh(setup.mesh):
        state = jax.eval_shape(lambda v: create_state(v, setup.tx), shapes)
        after, metrics = jax.eval_shape(setup.train_step.__call__, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize("name", ["fusion/ssv1", "fusion/ssv1:resnext101,opt"])
def test_miniature_takes_a_step(name, files):
    setup, batch = prepared(name, files)
    with jax.set_mesh(setup.mesh):
        state = create_state(made_up_variables(setup), setup.tx)
        # It runs once: an optimised program would take longer to compile.
        quick = {"xla_backend_optimization_level": 0}
        step = jax.jit(setup.train_step.__call__, compiler_options=quick)
        after, metrics = jax.device_get(step(state, put_batch(setup.mesh, batch)))
    before = jax.device_get(state.params)
    assert after.step == 1 and np.isfinite(metrics["loss"])
    moved = jax.tree.map(lambda a, b: abs(a - b).max(), before, after.params)
    found = np.array(jax.tree.leaves(moved))
    assert np.isfinite(found).all() and (found > 0).mean() > 0.3
    gates = moved.get("gates", {"": 1.0})
    assert all(value > 0 for value in jax.tree.leaves(gates))
