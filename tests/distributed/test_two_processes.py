"""Two real processes on localhost: train, preempt, resume, evaluate."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import toys

import stjax
from stjax.sharding.mesh import make_mesh
from stjax.training import inputs, loop
from stjax.training.checkpoint import Checkpoints
from stjax.training.setup import first_state, prepare

TIMEOUT = 280  # seconds: of a launch on a busy machine; 15 on an idle one


def launch(folder, number):
    """Runs both processes of a launch of worker.py to their end."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    here = Path(__file__).parent
    env = os.environ | {
        "XLA_FLAGS": "",  # one device each, not the eight of the tests
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "PYTHONPATH": str(here),
    }
    command = [sys.executable, str(here / "worker.py"), str(folder), coordinator]
    running = []
    with contextlib.ExitStack() as stack:
        for index in ("0", "1"):
            path = folder / f"log{number}-{index}.txt"
            log = stack.enter_context(path.open("w"))
            running.append(
                subprocess.Popen(
                    [*command, index, str(number)], env=env, stdout=log, stderr=log
                )
            )
            stack.callback(running[-1].wait)
            stack.callback(running[-1].kill)
        codes = [process.wait(TIMEOUT) for process in running]
    logs = [(folder / f"log{number}-{i}.txt").read_text() for i in (0, 1)]
    return codes, logs


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


def config(**mesh):
    made = toys.get_config()
    made.mesh.update(mesh)
    return made


def run_all(folder):
    """Both launches, and what one process does between them."""
    first = launch(folder, 1)
    if (folder / "stopped").exists():
        with Checkpoints(folder / "stopped") as checkpoints:
            (folder / "stopped_at.txt").write_text(str(checkpoints.last))
        shutil.copytree(folder / "stopped", folder / "to_one")
        stjax.train(config(data=2), folder / "to_one")
        shutil.copytree(folder / "whole", folder / "damaged")
        (folder / "damaged" / "results.json").unlink()
        files = (folder / "damaged" / "checkpoints" / "12" / "train").rglob("*")
        path = max((p for p in files if p.is_file()), key=lambda p: p.stat().st_size)
        path.write_bytes(path.read_bytes()[:1000])

    put, count = loop.put_batch, []

    def dies(mesh, batch):
        count.append(1)
        if len(count) == 8:
            raise Killed
        return put(mesh, batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "put_batch", dies)
        stjax.train(config(data=1), folder / "from_one")
    return folder, first, launch(folder, 2)


def read(folder, name):
    return [json.loads((folder / f"{name}-{i}.json").read_text()) for i in (0, 1)]


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    return {v["step"]: v["train/loss"] for v in lines if "train/loss" in v}


def state(workdir):
    """The last state of a run, on one device."""
    with Checkpoints(workdir) as checkpoints:
        return jax.device_get(first_state(prepare(config(data=1)), checkpoints)[0])


def check_both_processes_end_well(runs):
    folder, (codes, logs), (codes2, logs2) = runs
    assert codes == [143, 143], logs  # SIGTERM went to one of them
    assert codes2 == [0, 0], logs2
    assert read(folder, "codes1") == [[0, 143]] * 2, logs
    assert read(folder, "codes2") == [[0, 0, 0, 0]] * 2, logs2
    assert not [log for log in logs if "Traceback" in log]
    assert logs[0].count("stopped before the end") == 1  # said once
    assert "stopped before the end" not in logs[1]


def check_each_process_reads_only_its_shard(runs):
    folder, *_ = runs
    first, second = read(folder, "opened")
    assert sorted(first["train"] + second["train"]) == list(range(20))  # an epoch
    assert first["test"] == [0, 1, 4, 5] and second["test"] == [2, 3, 6, 7]
    for split, count in (("train", 5), ("test", 2)):
        source = inputs.open_split(config(), split)
        dataset = inputs.make_dataset(config(), source, train=split == "train")
        whole = np.stack([dataset[i]["input"] for i in range(count)])
        for index in (0, 1):
            share = np.load(folder / f"{split}-{index}.npy")
            np.testing.assert_array_equal(share, np.split(whole, 2, axis=1)[index])


def check_one_process_writes(runs):
    folder, *_ = runs
    for number in (1, 2):
        ours, theirs = read(folder, f"written{number}")
        theirs = [Path(path).relative_to(folder).parts for path in theirs]
        # Its part of a checkpoint, and what the test itself keeps.
        theirs = [p for p in theirs if len(p) > 1 and p[1] != "checkpoints"]
        assert not theirs
        for name in ("config.json", "metrics.jsonl", "events"):
            assert any(f"/{name}" in path for path in ours)
    events = list((folder / "whole" / "events").iterdir())
    assert len(events) == 1


def check_preempted_and_resumed_is_bit_equal(runs):
    folder, *_ = runs
    assert 7 <= int((folder / "stopped_at.txt").read_text()) < 12
    assert losses(folder / "stopped") == losses(folder / "whole")
    pair = state(folder / "stopped"), state(folder / "whole")
    jax.tree.map(np.testing.assert_array_equal, *pair)
    results = [
        json.loads((folder / name / "results.json").read_text())
        for name in ("stopped", "whole")
    ]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert list(losses(folder / "whole")) == list(range(1, 13))


def check_a_damaged_checkpoint_is_passed_over_by_both(runs):
    folder, _, (_, logs) = runs
    assert logs[0].count("checkpoint 12 of ") == 1 and "checkpoint 12" not in logs[1]
    assert "taking that of step 10; it is now 12.damaged" in logs[0]
    assert losses(folder / "damaged") == losses(folder / "whole")
    pair = state(folder / "damaged"), state(folder / "whole")
    jax.tree.map(np.testing.assert_array_equal, *pair)
    assert (folder / "damaged" / "results.json").exists()


def check_resumed_with_another_number_of_processes(runs, name):
    folder, *_ = runs
    found, expected = losses(folder / name), losses(folder / "whole")
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)
    pair = state(folder / name), state(folder / "whole")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-3, 1e-5), *pair)


def check_evaluation_is_exact_over_a_ragged_batch(runs):
    folder, *_ = runs
    found = json.loads((folder / "evaluated.json").read_text())
    expected = stjax.evaluate(folder / "whole")
    assert found["clips"] == expected["clips"] == 5 and found["skipped"] == 0
    for name, value in expected["metrics"].items():
        np.testing.assert_allclose(found["metrics"][name], value, rtol=1e-5)
        curves = found["per_frame"][name], expected["per_frame"][name]
        np.testing.assert_allclose(*curves, rtol=1e-5)
    assert found["baselines"].keys() == expected["baselines"].keys()
    for row, values in expected["baselines"].items():
        assert found["baselines"][row] == pytest.approx(values, rel=1e-5)
    expected = toys.recognised(make_mesh(data=1))
    assert expected["clips"] == 7
    for report in read(folder, "recognised"):
        assert report["metrics"] == pytest.approx(expected["metrics"], rel=1e-6)
        assert report["confusion"] == expected["confusion"]
        assert report["clips"] == 7


def test_two_processes(tmp_path):
    """One test, so that workers of pytest-xdist do not each make the runs."""
    runs = run_all(tmp_path)
    check_both_processes_end_well(runs)
    check_each_process_reads_only_its_shard(runs)
    check_one_process_writes(runs)
    check_preempted_and_resumed_is_bit_equal(runs)
    check_a_damaged_checkpoint_is_passed_over_by_both(runs)
    check_evaluation_is_exact_over_a_ragged_batch(runs)
    for name in ("to_one", "from_one"):
        check_resumed_with_another_number_of_processes(runs, name)
