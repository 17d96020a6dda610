import json
import math

import pytest
from etils import epath
from etils.epath import register
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stjax.training.writer import Writer, to_json, write_whole


def lines(folder):
    return [json.loads(t) for t in (folder / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_reads_the_events(tmp_path):
    with Writer(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write_scalars(step, {"train/loss": 1 / step})
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert events.Tags()["scalars"] == ["train/loss"]
    found = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert [s for s, _ in found] == [1, 2, 3]
    assert math.isclose(found[2][1], 1 / 3, rel_tol=1e-6)
    assert lines(tmp_path)[1] == {"step": 2, "train/loss": 0.5}


def test_steps_that_are_done_again_are_taken_out(tmp_path):
    with Writer(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write_scalars(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed while it wrote
    with Writer(tmp_path, step=2) as writer:
        writer.write_scalars(3, {"loss": 30})
    assert [line["loss"] for line in lines(tmp_path)] == [1, 2, 30]
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [e.value for e in events.Scalars("loss")] == [1, 2, 30]


def test_object_stores_get_whole_files(tmp_path, monkeypatch):
    # store:// stands for gs://: written locally, uploaded by flush.
    schemes = register._URI_PREFIXES_TO_CLS
    path = lambda name: epath.Path(name.removeprefix("store://"))  # noqa: E731
    monkeypatch.setitem(schemes, "store://", path)
    with Writer(f"store://{tmp_path}/run") as writer:
        writer.write_scalars(1, {"loss": 1})
        assert not (tmp_path / "run" / "metrics.jsonl").exists()
        writer.flush()
        assert lines(tmp_path / "run") == [{"step": 1, "loss": 1}]
        writer.write_scalars(2, {"loss": 2})
    with Writer(f"store://{tmp_path}/run", step=2) as writer:
        writer.write_scalars(3, {"loss": 3})
    assert [line["loss"] for line in lines(tmp_path / "run")] == [1, 2, 3]
    events = EventAccumulator(str(tmp_path / "run" / "events")).Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3]


def test_json_has_no_nan():
    text = to_json({"a": [math.inf, 1.0], "b": {"c": math.nan}})
    assert json.loads(text) == {"a": [None, 1.0], "b": {"c": None}}


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = epath.Path(tmp_path / "config.json")
    write_whole(path, "old")

    class Killed(BaseException):
        pass

    def dies(*unused):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(type(path), "replace", dies)
        write_whole(path, "new")
    assert path.read_text() == "old"
    write_whole(path, "newer")
    assert path.read_text() == "newer"
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
