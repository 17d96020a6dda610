"""Scalars at the services themselves: MLflow in files, Weights & Biases offline."""

import json
import math
import sys

import pytest

from stjax.config import base_config, difference, to_dict
from stjax.errors import UserError
from stjax.training import loggers
from stjax.training.writer import Writer

CONFIG = {"data.batch": 16, "model.name": "tau"}


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "server").as_uri())
    return MlflowClient()


def test_mlflow_has_the_run_before_and_after_an_interruption(tmp_path, mlflow):
    work = tmp_path / "work"
    with Writer(work, 0, ("mlflow",), CONFIG) as writer:
        writer.write_scalars(1, {"train/loss": 0.5})
        writer.write_scalars(2, {"train/loss": math.nan, "validation/mse": 3.0})
    with Writer(work, 2, ("mlflow",), CONFIG) as writer:
        writer.write_scalars(3, {"train/loss": 0.25})
    (experiment,) = [e for e in mlflow.search_experiments() if e.name == "stjax"]
    (run,) = mlflow.search_runs([experiment.experiment_id])
    assert run.info.run_name == "work" and run.info.status == "FINISHED"
    assert run.data.params == {"data.batch": "16", "model.name": "tau"}
    found = mlflow.get_metric_history(run.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in found][::2] == [(1, 0.5), (3, 0.25)]
    assert math.isnan(found[1].value) and run.data.metrics["validation/mse"] == 3
    assert json.loads((work / "loggers.json").read_text()) == {
        "mlflow": run.info.run_id
    }
    with Writer(work, 0, ("mlflow",), CONFIG):  # begun anew: another run
        pass
    assert len(mlflow.search_runs([experiment.experiment_id])) == 2


def test_a_training_goes_on_while_mlflow_is_away(tmp_path, mlflow, monkeypatch):
    from mlflow.tracking import MlflowClient

    send, away = MlflowClient.log_batch, [True]

    def log_batch(self, *args, **kwargs):
        if away[0] and "metrics" in kwargs:
            raise ConnectionError("no route to host")
        return send(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    with Writer(tmp_path / "work", 0, ("mlflow",)) as writer:
        writer.write_scalars(1, {"loss": 1.0})
        away[0] = False
        writer.write_scalars(2, {"loss": 2.0})
        found = mlflow.get_metric_history(writer._loggers["mlflow"].id, "loss")
    assert [(m.step, m.value) for m in found] == [(1, 1.0), (2, 2.0)]


def test_mlflow_without_a_server_is_one_line(tmp_path, mlflow, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "refused").as_uri())
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI to a server"):
        Writer(tmp_path / "work", 0, ("mlflow",))


def wandb_records(data):
    """The file is a log of LevelDB: blocks of 32 KiB, records cut at their borders."""
    at, whole = 7, b""  # the header
    while at < len(data):
        if -at % 32768 < 7:
            at += -at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            yield whole
            whole = b""


def test_wandb_gets_the_scalars(tmp_path, monkeypatch):
    """Offline mode writes into a file what it would send."""
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with Writer(tmp_path, 0, ("wandb", "tensorboard"), CONFIG) as writer:
        writer.write_scalars(1, {"train/loss": 0.5})
        writer.write_scalars(1, {"test/mse": 2.0})
        writer.write_scalars(3, {"train/loss": 0.25})
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows, config = [], {}
    for data in wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            rows.append({i.key or i.nested_key[0]: i.value_json for i in items})
        if record.HasField("run"):
            config |= {u.key: u.value_json for u in record.run.config.update}
            assert record.run.project == "stjax"
    assert [(r["_step"], r["train/loss"]) for r in rows] == [
        ("1", "0.5"),
        ("3", "0.25"),
    ]
    assert rows[0]["test/mse"] == "2" or float(rows[0]["test/mse"]) == 2
    assert config["data.batch"] == "16"
    assert list(json.loads((tmp_path / "loggers.json").read_text())) == ["wandb"]
    assert list((tmp_path / "events").iterdir())


def test_what_is_unknown_or_missing(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="'wandbb', expected .*wandb|wandbb"):
        Writer(tmp_path, 0, ("wandbb",))
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=rf"pip install 'stjax\[{name}\]'"):
            Writer(tmp_path, 0, (name,))


def test_a_run_may_go_on_with_other_loggers():
    old, new = base_config(), base_config()
    new.train.loggers = ("wandb",)
    assert base_config().train.loggers == ("tensorboard",)
    assert (
        difference({"train": to_dict(old)["train"]}, {"train": to_dict(new)["train"]})
        is None
    )
    assert set(loggers.LOGGERS) == {"tensorboard", "wandb", "mlflow"}
