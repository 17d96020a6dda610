"""Every row of Tables 2a to 2g has a config that a model can be made of."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from etils import epath

import stjax
from stjax.config import list_configs, validate
from stjax.data.motion_files import Counts, write_motion_clips
from stjax.errors import UserError
from stjax.training.setup import prepare

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import nonlocal_ablations as ablations
from nonlocal_tables import TABLES, shorter

ROWS = [(table, row) for table in TABLES for row in TABLES[table]]


def parameters(config):
    model = stjax.create_model(**config.model.to_dict())
    x = jax.ShapeDtypeStruct((1, 32, 64, 64, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    return sum(p.size for p in jax.tree.leaves(params))


def test_the_tables_are_the_papers():
    assert [len(rows) for rows in TABLES.values()] == [5, 4, 8, 8, 4, 6, 6]
    best = {name: max(r.top1 for r in rows.values()) for name, rows in TABLES.items()}
    assert best == {
        "2a": 72.9,
        "2b": 72.9,
        "2c": 75.1,
        "2d": 75.1,
        "2e": 75.1,
        "2f": 76.0,
        "2g": 77.7,
    }
    assert all(shorter(row) in TABLES["2f"] for row in TABLES["2g"])


@pytest.mark.parametrize("table,row", ROWS)
def test_every_row_has_a_config(table, row):
    full = ablations.row_config("full", table, row, path="there", init_from="in1k.pth")
    validate(full)
    assert full.data.path == "there" and full.train.init_from == "in1k.pth"
    assert full.train.steps == 400_000
    assert full.data.t_in == (128 if table == "2g" else 32)
    tiny = ablations.row_config("tiny", table, row, steps=10)
    validate(tiny)
    assert tiny.train.steps == 10 and tiny.data.t_in == full.data.t_in // 4
    same = ("name", "non_local", "places", "pairwise", "attend", "inflated")
    for field in same:
        assert tiny.model.get(field) == full.model.get(field)


def test_published_sizes():
    """Table 2e prints 43.2M; PySlowFast's C2D-101 has 43,319,760."""
    assert parameters(ablations.row_config("full", "2e", "c2d")) == 43_319_760
    assert parameters(ablations.row_config("full", "2f", "r50_nl_i3d")) == 35_401_936
    short = ablations.row_config("full", "2a", "gaussian", steps=4_000)
    assert short.optim.milestones == (0, 1_500, 3_000)


def test_long_clips_start_from_short_ones(tmp_path):
    folder = epath.Path(tmp_path)
    assert ablations.start(folder, "2f", "r50_nl_i3d", None) is None
    assert ablations.start(folder, "2g", "r50_nl_i3d", "w.pth") == "w.pth"
    with pytest.raises(UserError, match="--table=2f --rows=r50_i3d"):
        ablations.start(folder, "2g", "r50_nl_i3d", None)
    (folder / "2f" / "r50_i3d").mkdir(parents=True)
    (folder / "2f" / "r50_i3d" / "row.json").write_text(json.dumps({}))
    found = ablations.start(folder, "2g", "r50_nl_i3d", None)
    assert found == str(folder / "2f" / "r50_i3d")
    assert "nonlocal/motion_clips" in list_configs()


def test_tiny_rows_fit_their_clips(tmp_path):
    clips = write_motion_clips(tmp_path / "clips", counts=Counts(32, 4, 4))
    for table, row in (("2b", "res5"), ("2d", "r50_time")):
        config = ablations.row_config("tiny", table, row, path=str(clips), steps=2)
        setup = prepare(config)
        shapes = jax.eval_shape(
            setup.model.init,
            jax.random.key(0),
            jax.ShapeDtypeStruct((1, *setup.spec.input_shape), jnp.float32),
        )
        assert shapes["params"]["head"]["projection"]["kernel"].shape == (256, 4)
