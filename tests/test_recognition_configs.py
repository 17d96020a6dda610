"""Every config of recognition: its exact size, and a real step of some miniatures."""

import functools
import json

import jax
import numpy as np
import pytest
from miniatures import labelled_videos

from stjax.aot.specs import spec_of
from stjax.config import config_module, list_configs, load_config, validate
from stjax.data.sources import source_class
from stjax.optim import create_optimizer
from stjax.sharding.mesh import put_batch
from stjax.training import inputs
from stjax.training.setup import prepare
from stjax.training.state import (
    build_model,
    count_params,
    create_state,
    init_variables,
)

CLASSES = {  # of the data sets, from their publications
    "charades": 157,
    "hmdb51": 51,
    "kinetics400": 400,
    "kinetics600": 600,
    "ssv1": 174,
    "ssv2": 174,
    "ucf101": 101,
}
# Parameters with 400 classes: PySlowFast's models and UniFormer's, measured on the
# official code.
BASE = {
    "c2d_r50": 24_327_632,
    "c2d_r101": 43_319_760,
    "i3d_r50": 28_043_472,
    "i3d_r101": 51_754_192,
    "uniformer_s": 21_400_400,
    "uniformer_b": 49_813_200,
}
# A non-local block on C channels: four projections with bias, scale and bias of the BN.
BLOCK = {256: 132_224, 512: 526_592, 1024: 2_101_760, 2048: 4 * 2048 * 1024 + 9 * 1024}
FIVE = 2 * BLOCK[512] + 3 * BLOCK[1024]
BLOCKS = {
    "nl0": 0,
    "nl1": BLOCK[1024],
    "nl5": FIVE,
    "nl10": 4 * BLOCK[512] + 6 * BLOCK[1024],
}
ABLATIONS = {
    # Without theta and phi; with a weight for each of their channels.
    "gaussian": BLOCK[1024] - 2 * (1024 * 512 + 512),
    "dot_product": BLOCK[1024],
    "concatenation": BLOCK[1024] + 2 * 512,
    "res2": BLOCK[256],
    "res3": BLOCK[512],
    "res5": BLOCK[2048],
    "space_r50": FIVE,
    "time_r50": FIVE,
    "space_r101": FIVE,
    "time_r101": FIVE,
}
GAUSSIAN_FIVE = FIVE - 2 * 2 * (512 * 256 + 256) - 3 * 2 * (1024 * 512 + 512)
NO_NORM_FIVE = FIVE - 2 * 2 * 512 - 3 * 2 * 1024


def published() -> dict[str, int]:
    """Config -> exact number of parameters."""
    table = {}
    for net in ("i3d_r50", "i3d_r101", "c2d_r50", "c2d_r101"):
        for nl, extra in BLOCKS.items():
            for clip in ("32x2", "8x8"):
                table[f"nonlocal/kinetics:{net},{nl},{clip}"] = BASE[net] + extra
        for nl, extra in (("nl5", NO_NORM_FIVE), ("nl0", 0)):
            for clip in ("128x1", "32x4"):
                table[f"nonlocal/kinetics_long:{net},{nl},{clip}"] = BASE[net] + extra
    for row, extra in ABLATIONS.items():
        net = "c2d_r101" if row.endswith("r101") else "c2d_r50"
        table[f"nonlocal/ablations:{row}"] = BASE[net] + extra
    for start in ("scratch", "in1k"):
        for net in ("i3d_r50", "c2d_r50"):
            table[f"nonlocal/slowfast:{net},{start}"] = BASE[net]
        for net in ("r50", "r101"):
            count = BASE[f"i3d_{net}"] + FIVE
            table[f"nonlocal/slowfast:i3d_nln_{net},{start}"] = count
    for pairwise, extra in (
        ("embedded_gaussian", FIVE),
        ("dot_product", FIVE),
        ("gaussian", GAUSSIAN_FIVE),
        ("none", 0),
    ):
        table[f"nonlocal/mmaction2:{pairwise}"] = BASE["i3d_r50"] + extra
    fewer = (400 - 157) * (2048 + 1)
    for net, extra in (("nl_i3d", NO_NORM_FIVE), ("i3d", 0)):
        table[f"nonlocal/charades:{net}"] = BASE["i3d_r101"] + extra - fewer
    for name in everything():
        group, _, rest = name.partition("/")
        dataset, _, variant = rest.partition(":")
        if group == "uniformer" and dataset in CLASSES:
            size = "uniformer_b" if variant.startswith("b,") else "uniformer_s"
            table[name] = BASE[size] + (CLASSES[dataset] - 400) * (512 + 1)
    return table


def everything() -> list[str]:
    """Every config of recognition with every combination of its variants."""
    found = []
    for name in list_configs():
        group, _, data = name.partition("/")
        # What has no publication; other tests train on motion clips.
        own = data in ("motion_clips", "own_videos")
        if group in ("nonlocal", "uniformer") and not own:
            variants = getattr(config_module(name).get_config, "variants", ("",))
            found += [f"{name}:{v}" if v else name for v in variants]
    return found


@functools.cache
def _count(config_json: str, name: str) -> int:
    del config_json  # what the number depends on
    config = load_config(name)
    spec = spec_of(config)
    model = build_model(config, spec)
    variables = jax.eval_shape(lambda: init_variables(model, spec, config.seed))
    return count_params(variables["params"])


@pytest.mark.parametrize("name", everything())
def test_full_size(name):
    config = load_config(name)
    data, train = config.data, config.train
    facts = [config.model.to_dict(), data.size, data.t_in, data.num_classes]
    count = _count(json.dumps(facts), name)
    if "i3d_3x3x3" in name:  # Table 2e: one and a half times C2D
        assert round(count / BASE["c2d_r101"], 1) == 1.5
    else:
        assert count == published()[name]
    known = source_class(data.source).__init__.__kwdefaults__
    given = {key for key, value in data.items() if value is not None}
    assert not given - known.keys() - set(inputs._PIPELINE) - {"path"}
    epoch = 234_643 // data.batch
    steps = train.steps or train.epochs * epoch
    tx = create_optimizer(
        **config.optim.to_dict(), total_steps=steps, steps_per_epoch=epoch
    )
    lrs = [float(tx.values(step)["lr"]) for step in (0, steps // 4, steps - 1)]
    assert 0 <= lrs[2] < lrs[1] <= config.optim.lr * 1.000001


def test_published_mean_what_they_say():
    """mmaction2's table prints 35.4M, 31.7M with the Gaussian, and 28.0M without."""
    table = published()
    names = ("embedded_gaussian", "gaussian", "none")
    found = [round(table[f"nonlocal/mmaction2:{n}"] / 1e6, 1) for n in names]
    assert found == [35.4, 31.7, 28.0]
    assert table["nonlocal/slowfast:i3d_nln_r50,scratch"] == 35_401_936
    assert table["uniformer/kinetics600:s,16x4"] == 21_503_000
    assert not table.keys() - set(everything())


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Lists of every format and 10 to 30 frames of video each."""
    root = tmp_path_factory.mktemp("labelled")
    labelled_videos(root)
    return str(root)


MINIATURES = [n.rpartition(":")[0] or n for n in everything()]


def made_up_variables(setup):
    """Weights without the model's initialiser, which would take long to compile."""
    shapes = jax.eval_shape(lambda: init_variables(setup.model, setup.spec, 0))
    rng = np.random.default_rng(0)

    def make(path, leaf):
        ones = path[-1].key in ("scale", "var")
        return ones + 0.05 * rng.standard_normal(leaf.shape, np.float32)

    return jax.tree_util.tree_map_with_path(make, shapes)


def miniature(name, files):
    name, _, variant = name.partition(":")
    config = config_module(name).miniature(variant or None)
    validate(config)
    config.data.path = files
    return config


@pytest.mark.parametrize("name", sorted(set(MINIATURES)))
def test_miniatures_fit_their_data(name, files):
    """Real batches; a step and its evaluation are traced."""
    config = miniature(name, files)
    setup = prepare(config)
    spec = setup.spec
    assert config.data.batch == 2 and spec.height == 32
    dataset = inputs.make_dataset(config, setup.sources["train"], train=True)
    with inputs.batches(config, dataset) as batches:
        batch = next(batches)
    for key, (shape, dtype) in spec.arrays.items():
        assert batch[key].shape == (2, *shape) and batch[key].dtype == dtype
    shapes = jax.eval_shape(lambda: init_variables(setup.model, spec, 0))
    with jax.set_mesh(setup.mesh):
        state = jax.eval_shape(lambda v: create_state(v, setup.tx), shapes)
        after, metrics = jax.eval_shape(setup.train_step.__call__, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics["loss"].shape == ()
    views = setup.sources["test"].spec
    x = jax.ShapeDtypeStruct((1, *views.input_shape), np.float32)
    logits = jax.eval_shape(setup.model.apply, shapes, x)
    assert logits.shape == (1, len(spec.classes)) and logits.dtype == np.float32


@pytest.mark.parametrize(
    "name",
    [
        "nonlocal/ablations:concatenation",
        "nonlocal/kinetics_long:c2d_r50,nl5,32x4",
        "uniformer/ssv2:s,16,k400",
    ],
)
def test_miniature_takes_a_step(name, files):
    config = miniature(name, files)
    setup = prepare(config)
    dataset = inputs.make_dataset(config, setup.sources["train"], train=True)
    with inputs.batches(config, dataset) as batches:
        batch = next(batches)
    with jax.set_mesh(setup.mesh):
        state = create_state(made_up_variables(setup), setup.tx)
        # It runs once: an optimised program would take longer to compile.
        quick = {"xla_backend_optimization_level": 0}
        train_step = jax.jit(setup.train_step.__call__, compiler_options=quick)
        after, metrics = jax.device_get(train_step(state, put_batch(setup.mesh, batch)))
    before = jax.device_get(state.params)
    moved = jax.tree.map(lambda a, b: abs(a - b).max(), before, after.params)
    assert after.step == 1
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    moved = np.array(jax.tree.leaves(moved))
    assert np.isfinite(moved).all() and (moved > 0).mean() > 0.3
