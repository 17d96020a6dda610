"""`--profile`: a trace of a few steps, told apart by their numbers."""

import gzip
import json

import pytest
from conftest import tiny_config

import stjax
from stjax.training import profiling


@pytest.fixture
def short(monkeypatch):
    """Traces steps 2 and 3 of a start."""
    monkeypatch.setattr(profiling, "SKIP", 1)
    monkeypatch.setattr(profiling, "COUNT", 2)


def test_trace_of_steps(short, tmp_path, capfd):
    stjax.train(tiny_config(), tmp_path, profile=True)
    (proto,) = (tmp_path / "profile").rglob("*.xplane.pb")
    assert proto.stat().st_size > 1000
    (file,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    steps = [e["args"]["step_num"] for e in events if e.get("name") == "train"]
    assert sorted(map(int, steps)) == [2, 3]
    assert f"steps 2 to 3 are in {tmp_path / 'profile'}" in capfd.readouterr().err


def test_too_few_steps(tmp_path, capfd):
    profiler = profiling.Profiler(tmp_path, True, first=20, last=33)
    with profiler, profiler.step(21, wait=pytest.fail):
        pass
    assert capfd.readouterr().err == (
        "--profile: no trace; it takes steps 31 to 34, and the run ends with step 33\n"
    )
    assert not (tmp_path / "profile").exists()


def test_not_wanted(short, tmp_path, capfd):
    with profiling.Profiler(tmp_path, False, first=0, last=4) as profiler:
        for step in (1, 2, 3, 4):
            with profiler.step(step, wait=pytest.fail):
                pass
    assert not capfd.readouterr().err and not (tmp_path / "profile").exists()


def test_what_is_interrupted_is_kept(short, tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        profiling.Profiler(tmp_path, True, first=0, last=9) as profiler,
        profiler.step(2, wait=lambda: None),
    ):
        raise KeyboardInterrupt
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
