"""Every config: its exact size as published, and a real step of its miniature."""

import jax
import numpy as np
import pytest
from miniatures import WRITERS

from stjax.config import config_module, list_configs, load_config, validate
from stjax.data.base import ClipSpec
from stjax.data.sources import source_class
from stjax.errors import UserError
from stjax.sharding.mesh import put_batch
from stjax.training import inputs
from stjax.training.setup import prepare
from stjax.training.state import (
    build_model,
    count_params,
    create_state,
    init_variables,
)

FRAMES = {  # H, W, C as published
    "moving_mnist": (64, 64, 1),
    "moving_fmnist": (64, 64, 1),
    "noisy_moving_mnist": (64, 64, 1),
    "moving_mnist_cifar": (64, 64, 3),
    "taxibj": (32, 32, 2),
    "kth": (128, 128, 1),
    "kitti_caltech": (128, 160, 3),
    "human": (256, 256, 3),
    "kinetics": (256, 256, 3),
    "bair": (64, 64, 3),
}

# Exact numbers of parameters, measured on the official code.
TAU = {
    "moving_mnist": 44_656_001,
    "moving_fmnist": 44_656_001,
    "noisy_moving_mnist": 44_656_001,
    "moving_mnist_cifar": 44_657_283,
    "taxibj": 9_545_442,
    "kth": 14_955_201,
    "kitti_caltech": 14_956_483,
    "human": 37_647_363,
    "kinetics": 37_647_363,
    "bair": 10_607_427,
}
WEATHER = {
    "t2m": 12_219_553,
    "r": 12_219_553,  # one channel too
    "tcc": 12_219_553,
    # A second channel: 9 weights for each of 32 features, and a readout of 32 + 1.
    "uv10": 12_219_553 + 9 * 32 + 33,
    "mv_4_4": 9_548_652,
    "mv_4_28": 9_548_652,
    "t2m_1_40625": 12_284_545,
}
SIMVP = {  # on Moving MNIST; exact for TaxiBJ where measured
    "gsta": 46_769_665,
    "incepu": 57_946_113,
    "uniformer": 44_834_817,
    "mlpmixer": 38_192_449,
    "convmixer": 3_919_361,
    "poolformer": 37_115_393,
    "convnext": 37_313_921,
    "van": 44_520_833,
    "hornet": 45_738_305,
    "moga": 46_777_065,
    "vit": 46_102_273,
    "swin": 46_105_409,
}
SIMVP_TAXIBJ = {"vit": 9_657_698, "swin": 9_660_834}
PRINTED = {  # millions of parameters in the published tables
    "taxibj": {
        "incepu": 13.79,
        "gsta": 9.96,
        "vit": 9.66,
        "swin": 9.66,
        "mlpmixer": 8.24,
        "convmixer": 0.84,
        "poolformer": 7.75,
        "convnext": 7.84,
        "van": 9.48,
        "hornet": 9.68,
        "moga": 9.96,
    },
    "kth": {
        "incepu": 12.2,
        "gsta": 15.6,
        "vit": 12.7,
        "swin": 15.3,
        "uniformer": 11.8,
        "mlpmixer": 20.3,
        "convmixer": 1.5,
        "poolformer": 12.4,
        "convnext": 12.5,
        "van": 14.9,
        "hornet": 15.3,
        "moga": 15.6,
    },
    "kitti_caltech": {
        "incepu": 8.6,
        "gsta": 15.6,
        "vit": 12.7,
        "swin": 15.3,
        "uniformer": 11.8,
        "mlpmixer": 22.2,
        "convmixer": 1.5,
        "poolformer": 12.4,
        "convnext": 12.5,
        "van": 14.9,
        "hornet": 15.3,
        "moga": 15.6,
    },
}
RECURRENT = {  # moving_mnist, taxibj, kth, kitti_caltech
    "convlstm": (15_083_520, 14_980_096, 14_928_384, 15_031_808),
    "predrnn": (23_838_720, 23_658_496, 23_568_384, 23_748_608),
    "predrnnpp": (38_584_320, 38_404_096, 38_313_984, 38_494_208),
    "predrnnv2": (23_855_104, 23_674_880, 23_584_768, 23_764_992),
    "mim": (38_043_648, 37_863_424, 39_813_120, 49_160_192),
    "e3dlstm": (51_347_456, 50_987_008, 53_510_144, 54_886_400),
    "mau": (4_483_588, 4_409_868, 20_138_372, 24_332_952),
    "phydnet": (3_091_732, 3_092_309, 3_091_732, 3_092_886),
    "swinlstm": (20_191_969,),
}
DATASETS = ("moving_mnist", "taxibj", "kth", "kitti_caltech")
PREDFORMER = {  # moving_mnist, taxibj, human, weatherbench
    "full": (25_285_952, 8_434_976, 12_725_696, 5_272_848),
    "facst": (25_286_464, 8_435_488, 12_726_208, 5_273_360),
    "facts": (25_286_464, 8_435_488, 12_726_208, 5_273_360),
    "binary_st": (25_297_728, 8_438_560, 12_731_328, 5_276_432),
    "binary_ts": (25_297_728, 8_438_560, 12_731_328, 5_276_432),
    "triplet_tst": (25_297_728, 6_333_216, 12_731_328, 3_959_568),
    "triplet_sts": (25_297_728, 6_333_216, 12_731_328, 3_959_568),
    "quad_tsst": (25_297_728, 8_438_560, 12_731_328, 5_276_432),
    "quad_stts": (25_297_728, 8_438_560, 12_731_328, 5_276_432),
}
PREDICTION = ("prediction/", "tau/")
NO_BENCHMARK = ("tau/moving_digits", "tau/own_data")


def published() -> dict[str, int | float | None]:
    """Config -> parameters: exact, printed in millions, or None (not published)."""
    table = {f"tau/{name}": n for name, n in TAU.items()}
    for variants, name in (
        (("dynamic", "missing", "perceptual"), "noisy_moving_mnist"),
        (("20", "40"), "kth"),
    ):
        count = table.pop(f"tau/{name}")
        table |= {f"tau/{name}:{v}": count for v in variants}
    table |= {f"tau/weatherbench:{v}": n for v, n in WEATHER.items()}
    for translator, n in SIMVP.items():
        key = f"prediction/simvp:{translator},"
        table[key + "moving_mnist"] = n
        table |= {key + d: PRINTED[d].get(translator) for d in PRINTED}
        table[key + "taxibj"] = SIMVP_TAXIBJ.get(translator, table[key + "taxibj"])
    for name, counts in RECURRENT.items():
        for dataset, n in zip(DATASETS, counts, strict=False):
            key = f"prediction/{name}:{dataset}"
            table[key + ",s" if name == "convlstm" else key] = n
    table["prediction/convlstm:moving_mnist,l"] = 33_782_784
    for variant, counts in PREDFORMER.items():
        names = ("moving_mnist", "taxibj", "human", "weatherbench")
        for dataset, n in zip(names, counts, strict=True):
            table[f"prediction/predformer:{variant},{dataset}"] = n
    return table


def everything() -> list[str]:
    """Every config of prediction with every combination of its variants."""
    found = []
    for name in list_configs():
        if name.startswith(PREDICTION) and name not in NO_BENCHMARK:
            variants = getattr(config_module(name).get_config, "variants", ("",))
            found += [f"{name}:{v}" if v else name for v in variants]
    return found


def full_spec(config) -> ClipSpec:
    data = config.data
    if data.source == "weatherbench":
        channels = len(data.variables) * len(data.get("levels") or (0,))
        height, width = (128, 256) if "1_40625" in config.name else (32, 64)
    else:
        height, width, channels = FRAMES[data.source]
    names = tuple(f"c{i}" for i in range(channels))
    return ClipSpec(data.t_in, data.t_out, height, width, channels=names)


def test_the_table_has_no_config_that_is_not_there():
    assert not published().keys() - set(everything())


@pytest.mark.parametrize("name", everything())
def test_full_size(name):
    config = load_config(name)
    spec = full_spec(config)
    model = build_model(config, spec)
    variables = jax.eval_shape(lambda: init_variables(model, spec, config.seed))
    expected, count = published().get(name), count_params(variables["params"])
    if isinstance(expected, float):
        digits = 2 if config.data.source == "taxibj" else 1
        assert round(count / 1e6, digits) == expected
    elif expected is not None:
        assert count == expected
    data, optim, train = config.data, config.optim, config.train
    assert data.batch == (8 if name.endswith(",human") else 16)
    assert optim.schedule in ("onecycle", "cosine") and train.epochs
    known = source_class(data.source).__init__.__kwdefaults__
    rest = {"path", "augment"}
    assert not data.keys() - known.keys() - set(inputs._PIPELINE) - rest


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Data set -> a folder with its miniature files, written when first asked for."""
    written = {}

    def folder(source):
        writer = WRITERS[source]
        if writer not in written:
            written[writer] = tmp_path_factory.mktemp(source)
            writer(written[writer])
        return str(written[writer])

    return folder


def made_up_variables(setup):
    """Weights without the model's initialiser, which would take long to compile."""
    shapes = jax.eval_shape(lambda: init_variables(setup.model, setup.spec, 0))
    rng = np.random.default_rng(0)

    def make(path, leaf):
        ones = path[-1].key in ("scale", "var")
        return ones + 0.05 * rng.standard_normal(leaf.shape, np.float32)

    return jax.tree_util.tree_map_with_path(make, shapes)


# A miniature of each config file; those of several data sets share them out.
MINIATURES = (
    "tau/bair",
    "tau/human",
    "tau/kinetics",
    "tau/kitti_caltech",
    "tau/kth",
    "tau/moving_fmnist",
    "tau/moving_mnist",
    "tau/moving_mnist_cifar",
    "tau/noisy_moving_mnist",
    "tau/taxibj",
    "tau/weatherbench",
    "tau/weatherbench:mv_4_28",
    "prediction/convlstm:kth",
    "prediction/e3dlstm",
    "prediction/mau:taxibj",
    "prediction/mim",
    "prediction/phydnet:kth",
    "prediction/predformer:quad_tsst,weatherbench",
    "prediction/predrnn:kitti_caltech",
    "prediction/predrnnpp:taxibj",
    "prediction/predrnnv2:moving_mnist",
    "prediction/simvp:gsta,taxibj",
    "prediction/swinlstm",
)


def test_every_file_has_a_miniature():
    assert {m.partition(":")[0] for m in MINIATURES} >= (
        {n for n in list_configs() if n.startswith(PREDICTION)} - set(NO_BENCHMARK)
    )


@pytest.fixture
def miniature(files):
    """Name -> its training set-up and a real batch of its data."""

    def made(name):
        name, _, variant = name.partition(":")
        config = config_module(name).miniature(variant or None)
        validate(config)
        config.data.path = files(config.data.source)
        setup = prepare(config)
        dataset = inputs.make_dataset(config, setup.sources["train"], train=True)
        with inputs.batches(config, dataset) as batches:
            return setup, next(batches)

    return made


@pytest.mark.parametrize("name", MINIATURES)
def test_miniatures_fit_their_data(name, miniature):
    """A step on a real batch, and an evaluation, are traced."""
    setup, batch = miniature(name)
    spec = setup.spec
    assert setup.config.data.batch == 2
    large = setup.config.data.source == "kitti_caltech"
    assert large or max(spec.height, spec.width) <= 64
    assert batch["input"].shape == (2, *spec.input_shape)
    assert batch["target"].shape == (2, *spec.target_shape)
    shapes = jax.eval_shape(lambda: init_variables(setup.model, spec, 0))
    with jax.set_mesh(setup.mesh):
        state = jax.eval_shape(lambda v: create_state(v, setup.tx), shapes)
        after, metrics = jax.eval_shape(setup.train_step.__call__, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics["loss"].shape == ()
    x = jax.ShapeDtypeStruct((1, *spec.input_shape), np.float32)
    frames = jax.eval_shape(
        lambda v, x: setup.model.apply(v, x, frames=spec.t_out), shapes, x
    )
    assert frames.shape == (1, *spec.target_shape) and frames.dtype == np.float32


# The objectives: fed back, missing values, scheduled sampling, losses of the model's
# own. Gradients of TAU and of the recurrent models are compared with those of their
# originals in other tests.
@pytest.mark.parametrize(
    "name",
    [
        "tau/kth",
        "tau/weatherbench:mv_4_28",
        "tau/noisy_moving_mnist",
        "prediction/convlstm:kth",
        "prediction/phydnet:kth",
        "prediction/predformer:quad_tsst,weatherbench",
        "prediction/predrnnv2:moving_mnist",
    ],
)
def test_miniature_takes_a_step(name, miniature):
    setup, batch = miniature(name)
    with jax.set_mesh(setup.mesh):
        state = create_state(made_up_variables(setup), setup.tx)
        # It runs once: an optimised program would take longer to compile. PhyDNet's
        # transposed convolutions would take longer to run.
        quick = {"xla_backend_optimization_level": 0}
        options = None if "phydnet" in name else quick
        train_step = jax.jit(setup.train_step.__call__, compiler_options=options)
        after, metrics = jax.device_get(train_step(state, put_batch(setup.mesh, batch)))
    before = jax.device_get(state.params)
    moved = jax.tree.map(lambda a, b: abs(a - b).max(), before, after.params)
    assert after.step == 1
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    moved = np.array(jax.tree.leaves(moved))
    assert np.isfinite(moved).all() and (moved > 0).mean() > 0.5


@pytest.mark.parametrize("name", ["weatherbench:mv_4_4", "weatherbench:uv10", "kth:40"])
def test_other_variants_read_their_data(name, files):
    name, _, variant = name.partition(":")
    config = config_module(f"tau/{name}").miniature(variant)
    config.data.path = files(config.data.source)
    source = inputs.open_split(config, "train")
    clip = source.clip(len(source) - 1, np.random.default_rng(0))
    assert clip["input"].shape == source.spec.input_shape
    channels = {"mv_4_4": 12, "uv10": 2, "40": 1}[variant]
    assert clip["target"].shape[-1] == channels


def test_variants():
    config = load_config("tau/kth:official,40")
    assert (config.data.t_out, config.data.holdout) == (40, 0)
    assert config.train.select_on == "test"
    assert load_config("tau/kth").train.select_on == "validation"
    weather = load_config("tau/weatherbench:official")
    assert weather.data.normalise == "per_split"
    fine = load_config("prediction/predrnn:taxibj,miniature")
    assert fine.data.source == "taxibj" and fine.data.batch == 2
    with pytest.raises(UserError, match="taxibj"):
        load_config("prediction/predrnn:taxibi")
