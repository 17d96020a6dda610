"""From footage to the table: the experiment on motion clips, in miniature."""

import json
import sys
from pathlib import Path

import pytest
from etils import epath

import stjax
from stjax.config import load_config
from stjax.data.motion_clips import CLASSES
from stjax.data.motion_files import Counts, write_motion_clips

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import motion_clips


def test_every_network_has_a_config():
    for name in motion_clips.NETS.values():
        config = load_config(name)
        assert config.data.source == "labelled_videos" and config.train.steps
        assert not config.data.augment.flip  # it would turn the order round


def test_from_files_to_the_table(tmp_path):
    clips = write_motion_clips(tmp_path / "clips", counts=Counts(4, 4, 4))
    config = load_config(motion_clips.NETS["uniformer"] + ":miniature")
    config.data.path = str(clips)
    with config.unlocked():  # the model that compiles soonest, under the net's name
        config.model = {"name": "fusion_toy", "units": "S"}
    found = stjax.train(config, tmp_path / "uniformer")
    assert found["classes"] == list(CLASSES) and found["clips"] == 4
    text = motion_clips.write_table(epath.Path(tmp_path))
    rows = json.loads((tmp_path / "table.json").read_text())
    assert list(rows) == ["uniformer"]
    right = sum(found["confusion"][k][k] for k in range(4))
    assert rows["uniformer"]["top1"] == pytest.approx(right / 4)
    for factor in ("order", "same"):
        assert right / 4 <= rows["uniformer"][factor] <= 1
    assert "| uniformer | " in text and text == (tmp_path / "table.md").read_text()
    kept = motion_clips.train(
        "uniformer", "nowhere", epath.Path(tmp_path / "uniformer")
    )
    assert kept["confusion"] == found["confusion"]
