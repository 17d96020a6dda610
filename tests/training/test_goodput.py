"""Seconds by phase: on a clock that the test turns, and in a run."""

import json
import types
from concurrent.futures import Future

import pytest
from conftest import tiny_config

import stjax
from stjax.training import goodput
from stjax.training.goodput import PHASES, Goodput


@pytest.fixture
def clock(monkeypatch):
    """`clock.now` is the time in seconds."""
    clock = types.SimpleNamespace(now=0.0)
    fake = types.SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr(goodput, "time", fake)
    return clock


def spend(counted, clock, phase, seconds):
    with counted.phase(phase):
        clock.now += seconds


def test_phases_add_up(clock):
    counted = Goodput()
    clock.now += 3  # opening files
    counted.begin({})
    for _ in range(2):
        spend(counted, clock, "data", 1)
        spend(counted, clock, "step", 4)
    spend(counted, clock, "evaluation", 2)
    spend(counted, clock, "checkpoint", 5)
    clock.now += 2  # what nobody counts
    report = counted.report()
    seconds = {"init": 3, "data": 2, "step": 8, "checkpoint": 5, "evaluation": 2}
    assert report["seconds"] == {**seconds, "other": 2, "total": 22}
    assert report["shares"]["step"] == pytest.approx(8 / 22)
    assert sum(report["shares"].values()) == pytest.approx(1)
    assert goodput.line(report).startswith("goodput of 22 s: step 36.4%  checkpoint 22")
    assert counted.scalars() == {f"goodput/{k}": v for k, v in seconds.items()}


@pytest.mark.parametrize(
    ("begun", "done", "step", "data"),
    [
        (8.0, None, 10, 0),
        (8.0, 14.0, 4, 6),
        (1.0, 2.0, 0, 10),
        (8.0, 30.0, 10, 0),
        (19.0, None, 1, 9),
    ],
    ids=[
        "still computes",
        "ends within",
        "ended before",
        "ends later",
        "begins within",
    ],
)
def test_time_in_which_the_device_computes(clock, begun, done, step, data):
    counted = Goodput()
    counted._begun, counted._done = begun, Future()
    if done is not None:
        counted._done.set_result(done)
    clock.now = 10
    spend(counted, clock, "data", 10)
    assert (counted.seconds["step"], counted.seconds["data"]) == (step, data)


def test_the_next_start_goes_on(clock):
    first = Goodput()
    first.begin({})
    spend(first, clock, "step", 7)
    saved = first.saved()
    clock.now += 1000  # waiting for another machine is not counted
    second = Goodput()
    clock.now += 2
    second.begin(saved)
    spend(second, clock, "step", 1)
    seconds = second.report()["seconds"]
    assert (seconds["step"], seconds["init"], seconds["total"]) == (8, 2, 10)
    assert seconds["other"] == 0


def test_a_phase_counts_what_fails(clock):
    counted = Goodput()
    with pytest.raises(KeyError), counted.phase("checkpoint"):
        clock.now += 1
        raise KeyError
    assert counted.seconds["checkpoint"] == 1


def test_of_a_run_that_is_interrupted(tmp_path, monkeypatch):
    config = tiny_config()

    # A step takes as long as the process: the first start ends after 2 of 4 steps.
    requested = iter([False, False, True])
    monkeypatch.setattr(
        "stjax.training.loop.Termination.requested",
        property(lambda self: next(requested), lambda self, value: None),
        raising=False,
    )
    assert stjax.train(config, tmp_path) == {}
    monkeypatch.undo()
    results = stjax.train(config, tmp_path)
    found = results["goodput"]
    assert found["shares"].keys() == {*PHASES, "other"}
    assert found["seconds"].keys() == {*PHASES, "other", "total"}
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert min(found["seconds"][name] for name in PHASES) > 0
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    written = {v["step"]: v for v in lines if "goodput/step" in v}
    assert written.keys() == {2, 4}
    for name in PHASES:  # the second start adds to the first
        assert written[4][f"goodput/{name}"] >= written[2][f"goodput/{name}"] > 0 or (
            name == "checkpoint"  # is written before the first one is saved
        )
        assert found["seconds"][name] >= written[4][f"goodput/{name}"]
    assert written[4]["goodput/init"] > written[2]["goodput/init"]
