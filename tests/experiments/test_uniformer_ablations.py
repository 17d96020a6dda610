"""Every row has a config that a model can be made of; the table; finished rows."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from etils import epath

import stjax
from stjax.config import validate
from stjax.data.motion_clips import CLASSES
from stjax.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import ablation
import uniformer_ablations as ablations

PAPER = "uniformer/kinetics400:s,16x4"


def parameters(config):
    model = stjax.create_model(**config.model.to_dict())
    x = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    return sum(p.size for p in jax.tree.leaves(params))


@pytest.mark.parametrize("row", ablations.ROWS)
def test_every_row_has_a_config(row):
    config = ablations.row_config(row, path="there", steps=10)
    validate(config)
    assert (config.data.path, config.train.steps) == ("there", 10)
    full = parameters(ablations.row_config("full"))
    assert (parameters(config) == full) == (row == "full")
    paper = ablations.row_config(row, PAPER, init_from="in1k.pth", epochs=55)
    validate(paper)
    assert paper.train.epochs == 55 and paper.optim.warmup == 5
    assert paper.train.init_from == "in1k.pth" and paper.data.t_in == 16


def test_published_sizes():
    """21.4M, divided attention 27.7M."""
    assert parameters(ablations.row_config("full", PAPER)) == 21_400_400
    assert parameters(ablations.row_config("divided", PAPER)) == 27_847_504
    assert ablations.row_config("LLLL", PAPER).model.depth == (3, 5, 10, 4)
    assert ablations.row_config("GGGG", PAPER).model.depth == (2, 2, 7, 3)


def result(top1):
    return {
        "metrics": {"top1": top1},
        "classes": list(CLASSES),
        "confusion": [[4, 0, 0, 0], [0, 4, 0, 0], [4, 0, 0, 0], [0, 4, 0, 0]],
        "params": 1_234,
        "macs": 2_500_000_000,
        "seconds": 600.0,
        "trained": 16_000,
        "clips": 16,
        "devices": "1 x cpu",
        "seed": 42,
        "protocol": "model selected on the validation split",
    }


def test_table_and_finished_rows(tmp_path):
    folder = epath.Path(tmp_path)
    for name, top1 in (("LLLL", 0.25), ("full", 0.5)):
        (folder / name).mkdir()
        (folder / name / "row.json").write_text(json.dumps(result(top1)))
        assert ablation.run_row(None, folder / name) == result(top1)
    text = ablation.write_table(folder, ablations.ROWS, "base", "paper")
    assert text == (folder / "table.md").read_text()
    lines = [x for x in text.splitlines() if x.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    # The order is always wrong for half of the clips, same or different always right.
    expected = "| full | 1,234 | 2.5 | 10 | 50.0 | 50.0 | 100.0 | 79.3 | 94.3 |"
    assert lines[2].startswith(expected) and lines[3].startswith("| LLLL")
    values = json.loads((folder / "table.json").read_text())
    assert values["LLLL"]["published"]["top1"] == 77.2


def test_what_cannot_be_varied():
    with pytest.raises(UserError, match="i3d_r50"):
        ablations.row_config("full", "nonlocal/kinetics")
    with pytest.raises(UserError, match="did you mean 'LLLL'"):
        ablation.pick(ablations.ROWS, ["LLLM"])
    assert ablation.pick(ablations.ROWS, ["all"]) == ablations.ROWS
