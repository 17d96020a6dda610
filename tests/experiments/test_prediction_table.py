"""The table of frame predictors: its rows' configs, and what it prints."""

import json
import sys
from pathlib import Path

import pytest
from etils import epath

from stjax.config import validate
from stjax.data.base import ClipSpec
from stjax.errors import UserError
from stjax.macs import model_macs
from stjax.training.state import build_model

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import prediction_scales as scales
import prediction_table
from prediction_published import PUBLISHED


@pytest.mark.parametrize("model", scales.MODELS)
def test_every_row_has_a_config(model):
    tiny = scales.row_config("tiny", model, "moving_digits", digits="mnist.npz")
    validate(tiny)
    assert (tiny.data.source, tiny.data.path) == ("moving_digits", "mnist.npz")
    assert (tiny.train.steps, tiny.train.epochs, tiny.data.batch) == (400, None, 16)
    build_model(tiny, ClipSpec(10, 10, 32, 32))
    small = scales.row_config("small", model, "moving_mnist", path="there")
    validate(small)
    assert small.data.source == "moving_mnist" and small.train.steps == 12_500
    build_model(small, ClipSpec(10, 10, 64, 64))
    paper = scales.row_config("paper", model, "moving_mnist", path="there")
    assert paper.train.epochs in (200, 2_000) and paper.data.path == "there"


def test_schedules_shrink_with_the_run():
    model = scales.row_config("tiny", "predrnn", "moving_digits").model
    # Of 125,000 published updates, teaching ends after 50,000: here after 160 of 400.
    assert model.sampling_stop == 160 and model.sampling_rate == 1 / 160
    model = scales.row_config("tiny", "predrnnv2", "moving_digits").model
    assert (model.reverse_start, model.reverse_stop) == (80, 160)


def test_costs_keep_their_published_ratios():
    """Published: ConvLSTM 3.6, PredRNN 7.3 and gSTA 1.03 times as much as TAU."""

    def macs(name):
        config = scales.row_config("tiny", name, "moving_digits")
        spec = ClipSpec(10, 10, 32, 32)
        return model_macs(build_model(config, spec), spec.input_shape, 10)

    assert 2 < macs("predrnn") / macs("convlstm") < 2.2
    assert 0.8 < macs("tau") / macs("gsta") < 1.2


def test_what_nobody_has_published():
    with pytest.raises(UserError, match="swinlstm has no published config"):
        scales.row_config("paper", "swinlstm", "kth")
    with pytest.raises(UserError, match="scale"):
        scales.row_config("tiny", "tau", "kth")


def row(mse):
    names = ("mse", "mae", "ssim", "ssim_range2", "psnr")
    metrics = dict(zip(names, (mse, 50.0, 0.5, 0.6, None), strict=True))
    return {
        "metrics": metrics,
        "baselines": dict.fromkeys(
            ("last_frame", "black", "mean_training_frame"), metrics
        ),
        "params": 1_234,
        "macs": 2_500_000_000,
        "predicts": 31.4,
        "seconds": 3_700.0,
        "clips_trained": 9_600,
        "clips": 500,
        "devices": "1 x cpu",
        "seed": 42,
        "protocol": "model selected on the validation split",
    }


def test_table_and_finished_rows(tmp_path):
    folder = epath.Path(tmp_path)
    for model, mse in (("predrnn", 40.0), ("tau", 30.0)):
        (folder / model).mkdir()
        (folder / model / "row.json").write_text(json.dumps(row(mse)))
        assert prediction_table.run_row(None, folder / model) == row(mse)
    text = prediction_table.write_table(folder, "tiny", "moving_digits")
    assert text == (folder / "table.md").read_text()
    lines = [x for x in text.splitlines() if x.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert [x.split(" | ")[0] for x in lines[2:]] == [
        "| tau",
        "| predrnn",
        "| last frame",
        "| mean training frame",
        "| black",
    ]
    published = PUBLISHED["moving_digits"]["tau"]
    assert f"| {published.mse:g} |" in lines[2] and "| 1 h 2 min |" in lines[2]
    values = json.loads((folder / "table.json").read_text())
    assert values["predrnn"]["ours"]["metrics"]["mse"] == 40.0
    assert values["tau"]["published"]["mse"] == 24.60
