"""Programs without files, without devices: specs, shardings, counts, advice."""

import jax
import pytest

from stjax import aot
from stjax.aot import compiling, programs
from stjax.aot.specs import clips_of_an_epoch, spec_of
from stjax.config import base_config, load_config
from stjax.errors import UserError
from stjax.macs import count_macs, model_macs


def program(name="tau/moving_mnist:miniature", kind="train", devices=1, **fields):
    config = load_config(name)
    config.update_from_flattened_dict(
        {"mesh.data": -1, **{k.replace("__", "."): v for k, v in fields.items()}}
    )
    return programs.program(config, kind, jax.devices()[:devices])


def test_the_training_step_costs_three_times_the_prediction():
    """But the gradient of the first layer's input, which nobody asks for."""
    train = program()
    config = load_config("tau/moving_mnist:miniature")
    t_in, height, width, channels = spec_of(config).input_shape
    first = t_in * height * width * 9 * channels * config.model.hid_s
    predict = count_macs((one := program(kind="predict")).function, *one.arguments)
    got = count_macs(train.function, *train.arguments)
    assert got == 3 * predict - train.clips * first
    model = one.function.args[0]
    assert predict == one.clips * model_macs(model, spec_of(config).input_shape, 2)


def test_memory_that_is_always_there():
    train = program(devices=4, **{"data__batch": 8})
    state = train.arguments[0]
    assert train.parameters == sum(p.size for p in jax.tree.leaves(state.params))
    # Adam: two moments of each parameter, and the step.
    assert train.resident["optimizer"] == 2 * 4 * train.parameters + 4
    # A device has 2 of 8 clips: 2 frames in, 2 out, of 64x64, and their weights.
    assert train.resident["batch"] == 2 * (4 * 64 * 64 + 4)


def labelled():
    config = base_config()
    with config.unlocked():
        config.model = {"name": "i3d_r50", "num_classes": 400}
        config.data.update(
            source="labelled_videos",
            format="kinetics",
            t_in=32,
            size=224,
            test_size=256,
            clips=10,
            crops=3,
        )
    return config


def test_labelled_clips():
    config = labelled()
    train, test = spec_of(config), spec_of(config, train=False)
    assert train.arrays == {
        "input": ((1, 32, 224, 224, 3), "uint8"),
        "target": ((400,), "float32"),
    }
    assert test.arrays["input"] == ((30, 32, 256, 256, 3), "uint8")
    assert clips_of_an_epoch(config) == 240_436
    # Evaluation takes one view after the other.
    config.data.batch = 2
    (_, x) = programs.program(config, "predict", jax.devices()[:1]).arguments
    assert (x.shape, x.dtype) == ((2, 32, 256, 256, 3), "uint8")
    config.model.num_classes = 5
    assert clips_of_an_epoch(config) is None
    with config.unlocked():
        del config.model.num_classes
    with pytest.raises(UserError, match="model.num_classes"):
        spec_of(config)


def test_clips_without_files():
    config = load_config("tau/kth")
    assert spec_of(config).input_shape == (10, 128, 128, 1)
    assert spec_of(config).target_shape == (20, 128, 128, 1)
    assert clips_of_an_epoch(config) == 5_200
    weather = spec_of(load_config("tau/weatherbench:mv_4_4"))
    assert weather.input_shape == (4, 32, 64, 12) and weather.dtype == "float32"
    digits = load_config("tau/moving_digits")
    assert spec_of(digits).input_shape == (5, 32, 32, 1)
    assert clips_of_an_epoch(digits) == 10_000
    own = load_config("tau/own_data")
    own.data.path = "/nowhere"
    with pytest.raises(UserError, match="follows from its files"):
        spec_of(own)
    assert clips_of_an_epoch(own) is None


OOM = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO"
    " temporaries (111.79G) exceeds available HBM (15.75G)."
)
LONG_OOM = (
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 18.25G of 15.75G"
    " hbm. Exceeded hbm capacity by 2.50G.\n\nTotal hbm usage >= 18.5G:\n  reserved"
)


def test_what_the_compiler_says_when_memory_is_short():
    assert compiling.needed(OOM) == int(111.79 * 2**30)
    assert compiling.needed(LONG_OOM) == int(18.25 * 2**30)
    assert compiling.problem(OOM).endswith("exceeds available HBM (15.75G)")
    assert "\n" not in compiling.problem(LONG_OOM)
    assert compiling.needed("RESOURCE_EXHAUSTED: no figure") is None


def report(**fields):
    values = {
        "config": "c",
        "topology": "v5e:2x4",
        "kind": "train",
        "dtype": "bfloat16",
        "devices": 8,
        "clips": 128,
        "epoch": 10_000,
        "parameters": 10,
        "resident": {"parameters": 40, "optimizer": 80, "batch": 1000},
        "hbm": 16 * 2**30,
        "flops": 1.97e12,
        "moved": 8.19e9,
        "peak": 2**30,
    }
    return aot.Report(**values | fields)


def test_bounds():
    v5e = aot.CHIPS["v5e"]
    one = report(collectives={"all-reduce": (3, 10**8), "all-gather": (1, 10**7)})
    bounds = one.seconds(v5e)
    assert bounds["arithmetic"] == pytest.approx(1.97 / 197)
    assert bounds["memory"] == pytest.approx(8.19 / 819)
    # Out and in: an all-reduce twice, a gather once; 7 of 8 parts come from others.
    assert bounds["links"] == pytest.approx(7 / 8 * (4e8 + 2e7) / 400e9)
    assert one.roofline(v5e) == (max(bounds.values()), max(bounds, key=bounds.get))
    assert one.step_seconds(v5e) == max(bounds.values())
    # Cycles know nothing of collectives.
    slow = report(cycles=30_000_000, collectives=one.collectives)
    assert slow.step_seconds(v5e) == pytest.approx(0.02 + bounds["links"])
    assert aot.Report.from_dict(slow.to_dict()) == slow
    assert one.fits and not report(peak=2**40).fits
    assert not report(problem="too much").fits


def test_advice():
    config = load_config("tau/moving_mnist")
    short = report(problem="too much", peak=20 * 2**30)
    assert aot.advice(config, short) == (
        "dtype=bfloat16, or remat=full (activations computed again), or"
        " train.accumulate=2 (the batch in parts), or data.batch=64"
    )
    assert aot.others(short) == ["v4", "v5p", "v6e", "tpu7x", "a100", "h100"]
    config.dtype, config.remat = "bfloat16", "full"
    one_each = report(problem="too much", clips=8)
    assert aot.advice(config, one_each) == "mesh.space=2 (rows of frames spread)"
    heavy = {"parameters": 4 * 2**30, "optimizer": 8 * 2**30, "batch": 1}
    large = report(problem="too much", clips=8, resident=heavy)
    assert "mesh.fsdp=8" in aot.advice(config, large)
