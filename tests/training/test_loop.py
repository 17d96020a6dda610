import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import tiny_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import stjax
from stjax.convert import to_torch
from stjax.data.base import ClipSpec
from stjax.errors import UserError
from stjax.training import inputs, setup
from stjax.training.checkpoint import Checkpoints
from stjax.training.initial import initial_variables
from stjax.training.setup import first_state, prepare
from stjax.training.stopping import Termination
from stjax.training.workdir import describe, description, load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: config, workdir, results."""
    workdir = tmp_path_factory.mktemp("run")
    config = tiny_config()
    return config, workdir, stjax.train(config, workdir)


def train_losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    return {v["step"]: v["train/loss"] for v in lines if "train/loss" in v}


def weights(workdir, step="last"):
    return jax.device_get(load_run(workdir, step).variables)


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


def test_workdir_and_results(run):
    config, workdir, results = run
    assert json.loads((workdir / "results.json").read_text()) == results
    names = {"mse", "mae", "psnr", "ssim", "ssim_range2"}
    rows = results["baselines"]
    assert rows.keys() == {"last_frame", "black", "mean_training_frame"}
    assert all(row.keys() == names for row in [results["metrics"], *rows.values()])
    assert len(results["per_frame"]["mse"]) == 2
    np.testing.assert_allclose(
        np.mean(results["per_frame"]["mse"]), results["metrics"]["mse"], rtol=1e-6
    )
    assert results["protocol"] == "model selected on the validation split"
    assert results["config"] == "tau/moving_digits:miniature"
    assert (results["seed"], results["steps"]) == (42, 4)
    assert (results["clips"], results["skipped"]) == (3, 0)
    params = jax.tree.leaves(weights(workdir)["params"])
    assert results["params"] == sum(p.size for p in params)
    assert results["seconds"] > 0 and results["clips_per_second"] > 0
    assert (workdir / "pictures" / "test.png").stat().st_size > 1000
    again, spec = description(workdir)
    assert again.to_dict() == config.to_dict() and spec.t_out == 2
    events = EventAccumulator(str(workdir / "events")).Reload()
    losses = {e.step: e.value for e in events.Scalars("train/loss")}
    assert losses == pytest.approx(train_losses(workdir))
    assert [e.step for e in events.Scalars("validation/mse")] == [2, 4]


def test_evaluate_needs_only_the_workdir(run):
    _, workdir, results = run
    found = stjax.evaluate(workdir)
    assert (found["split"], found["step"]) == ("test", results["best_step"])
    for name, value in results["metrics"].items():
        np.testing.assert_allclose(found["metrics"][name], value, rtol=1e-5)
    for row, values in results["baselines"].items():
        assert found["baselines"][row] == pytest.approx(values)


@pytest.fixture(scope="module")
def ten_steps(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("ten")
    stjax.train(tiny_config(steps=10, eval_every=10, save_every=5), workdir)
    return workdir


@pytest.mark.parametrize("workers", [0, 2])
def test_ten_steps_are_five_and_five(ten_steps, tmp_path, monkeypatch, workers):
    config = tiny_config(steps=10, eval_every=10, save_every=5)
    config.data.workers = 1 if workers else 0
    put, count = setup_put(), []

    def dies(mesh, batch):
        count.append(1)
        if len(count) == 9:  # after 8 of the ten steps, 3 after the checkpoint
            raise Killed
        return put(mesh, batch)

    monkeypatch.setattr("stjax.training.loop.put_batch", dies)
    with pytest.raises(Killed):
        stjax.train(config, tmp_path)
    monkeypatch.undo()
    config.data.workers = workers
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last == 5
    stjax.train(config, tmp_path)
    assert train_losses(tmp_path) == train_losses(ten_steps)  # bit for bit
    pairs = weights(tmp_path), weights(ten_steps)
    jax.tree.map(np.testing.assert_array_equal, *pairs)


TERMINATED = """
import os, signal, sys
from stjax import cli
from stjax.training import loop

put, count = loop.put_batch, []

def terminates(mesh, batch):
    count.append(1)
    if len(count) == 7:  # while the seventh of ten steps is prepared
        os.kill(os.getpid(), signal.SIGTERM)
    return put(mesh, batch)

loop.put_batch = terminates
cli.main(["stjax", *sys.argv[1:]])
"""


def test_sigterm_saves_and_the_run_goes_on(ten_steps, tmp_path):
    flags = ["train.steps=10", "train.eval_every=10", "train.save_every=5"]
    cache = {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-c", TERMINATED, "train", f"--workdir={tmp_path}"),
            "--config=tau/moving_digits:miniature",
            *(f"--config.{flag}" for flag in flags),
        ],
        env={**os.environ, **cache},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 143, done.stderr
    line = "SIGTERM: finishing this step and saving a checkpoint"
    assert done.stderr.count(line) == 1 and "Traceback" not in done.stderr
    assert "stopped before the end; the same command goes on" in done.stdout
    assert not (tmp_path / "results.json").exists()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last == 7
    stjax.train(tiny_config(steps=10, eval_every=10, save_every=5), tmp_path)
    assert train_losses(tmp_path) == train_losses(ten_steps)  # bit for bit
    pairs = weights(tmp_path), weights(ten_steps)
    jax.tree.map(np.testing.assert_array_equal, *pairs)


def test_a_second_sigterm_is_not_caught():
    before = signal.getsignal(signal.SIGTERM)
    with Termination() as termination:
        assert not termination.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert termination.requested
        assert signal.getsignal(signal.SIGTERM) == before
    with Termination():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_google_cloud_needs_a_package(tiny, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for call in (lambda p: stjax.train(tiny, p), stjax.evaluate):
        with pytest.raises(UserError, match=r"gcsfs: pip install 'stjax\[gcs\]'"):
            call("gs://bucket/run")


def test_a_workdir_without_checkpoints_takes_another_config(tiny, tmp_path):
    spec = ClipSpec(2, 2, 16, 16)
    describe(tmp_path, tiny, spec)
    tiny.loss.alpha = 0.5
    describe(tmp_path, tiny, spec)
    assert description(tmp_path)[0].loss.alpha == 0.5
    # A config of before there was a field gets the field's default.
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    del values["config"]["metrics"]
    path.write_text(json.dumps(values))
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    describe(tmp_path, tiny, spec)


def setup_put():
    from stjax.sharding.mesh import put_batch

    return put_batch


def test_another_config_is_refused(run):
    config, workdir, _ = run
    config = config.copy_and_resolve_references()
    config.loss.alpha = 0.5
    with pytest.raises(UserError, match="loss.alpha: 0.1 there, 0.5 now"):
        stjax.train(config, workdir)


def test_a_finished_run_is_only_evaluated_again(run):
    config, workdir, results = run
    config = config.copy_and_resolve_references()
    config.train.save_every = 1  # what is written may change
    again = stjax.train(config, workdir)
    assert again["metrics"] == pytest.approx(results["metrics"])
    assert again["clips_per_second"] is None


@pytest.mark.parametrize("kind", ["workdir", "safetensors"])
def test_start_from_other_weights(run, tmp_path, kind):
    config, workdir, _ = run
    path = workdir
    if kind == "safetensors":
        from safetensors.numpy import save_file

        done = load_run(workdir)
        path = tmp_path / "tau.safetensors"
        state = {
            k: np.ascontiguousarray(v)
            for k, v in to_torch(done.model, done.variables).items()
        }
        save_file(state, path)
    config = tiny_config(init_from=str(path))
    config.optim.lr = 1e-9
    with Checkpoints(tmp_path / "new", create=True) as checkpoints:
        state, _ = first_state(prepare(config), checkpoints)
    jax.tree.map(
        np.testing.assert_array_equal, state.variables, weights(workdir, "best")
    )
    assert state.step == 0
    model = setup.build_model(tiny_config(), load_run(workdir).spec)
    shapes = jax.eval_shape(lambda: {"params": {"w": jax.numpy.zeros(3)}})
    if kind == "workdir":
        with pytest.raises(UserError, match="does not fit the model"):
            initial_variables(str(path), model, shapes)


def test_weights_that_are_not_there(tiny, tmp_path):
    tiny.train.init_from = str(tmp_path / "nothing.pth")
    with pytest.raises(UserError, match="does not exist; check the path"):
        stjax.train(tiny, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(tiny, tmp_path, monkeypatch):
    tiny.train.save_every = 1
    put, count = setup_put(), []

    def spoils(mesh, batch):
        batch = put(mesh, batch)
        count.append(1)
        scale = np.nan if len(count) == 3 else 1.0
        return batch | {"weight": batch["weight"] * scale}

    monkeypatch.setattr("stjax.training.loop.put_batch", spoils)
    with pytest.raises(UserError, match="step 3: the loss is nan"):
        stjax.train(tiny, tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last == 2
    leaves = jax.tree.leaves(weights(tmp_path))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_missing_values_are_an_error_or_are_masked(
    tiny, tmp_path, monkeypatch, float_source
):
    monkeypatch.setattr(inputs, "open_split", lambda config, split: float_source)
    tiny.train.select_on = "test"
    with pytest.raises(UserError, match="not finite"):
        stjax.train(tiny, tmp_path / "error")
    tiny.data.nan = "mask"
    results = stjax.train(tiny, tmp_path / "mask")
    assert results["protocol"] == "official: model selected on the test set"
    assert all(np.isfinite(v) for v in train_losses(tmp_path / "mask").values())
    # In raw units, over valid cells: the mean frame of N(280, 10) misses by about 10.
    assert results["metrics"].keys() == {"mse_mean", "mae_mean", "rmse_mean"}
    target = float_source.video[:, 2:, 3:].astype(np.float64)
    last = float_source.video[:, 1:2, 3:].astype(np.float64)
    rows = results["baselines"]
    error = np.square(last - target).mean()
    np.testing.assert_allclose(rows["last_frame"]["mse_mean"], error, rtol=1e-5)
    error = np.sqrt(np.square(target.mean((0, 1)) - target).mean())
    np.testing.assert_allclose(
        rows["mean_training_frame"]["rmse_mean"], error, rtol=1e-5
    )


def test_more_devices_than_clips(tiny, tmp_path):
    tiny.mesh.data = 8
    with pytest.raises(UserError, match="a batch of 2 cannot be split over 8"):
        stjax.train(tiny, tmp_path)
