"""Ranking: what is scored, on which clips, in which order, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest
from toy_search import toy_config, write_search

from stjax.data.holdout import held_out, same_clips
from stjax.errors import UserError
from stjax.evaluation import create_evaluator
from stjax.search import choosing, rank
from stjax.search.exporting import strategy_config, used_variables
from stjax.search.ranking import read_ranking, search_run, selection_split
from stjax.search.scoring import Scorer, jackknife, measured, without_gates
from stjax.search.space import create_space
from stjax.sharding.mesh import make_mesh
from stjax.training.inputs import open_split
from stjax.training.state import build_model
from stjax.training.workdir import load_run

MIXED = ("S", "ST", "S+ST")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_search(tmp_path_factory.mktemp("search") / "run")


@pytest.fixture(scope="module")
def ranking(workdir):
    return rank(workdir, samples=5, uniform=2, batches=2, include=["+++", "ST,S,S"])


def test_candidates(ranking):
    rows = {row["strategy"]: row for row in ranking["rows"]}
    assert len(rows) == len(ranking["rows"])  # no one twice
    assert {"sss", "ttt", "+++", "st+", "tss"} <= rows.keys()
    assert rows["+++"]["from"][:2] == ["+++", "all S+ST"]
    assert "mode" in rows["st+"]["from"]
    assert rows["st+"]["log_prob"] == pytest.approx(np.log(0.7 * 0.8 * 0.6), abs=1e-5)
    sampled = [row for row in rows.values() if "sample" in row["from"]]
    assert len(sampled) == 5
    assert ranking["clips"] == 6 and "2 training batches" in ranking["bn"]


def test_order_and_costs(ranking, workdir):
    values = [row["metrics"]["top1"] for row in ranking["rows"]]
    assert values == sorted(values, reverse=True)
    assert ranking["best"] == ranking["rows"][0]["strategy"]
    run = search_run(workdir, "last")
    space = create_space(run.config, run.spec)
    for row in ranking["rows"]:
        cost = space.cost(row["units"])
        assert (row["params"], row["macs"]) == (cost.params, cost.macs)


def test_files(ranking, workdir):
    folder = workdir / "search"
    assert json.loads((folder / "ranking.json").read_text())["best"] == ranking["best"]
    page = (folder / "ranking.md").read_text()
    assert "Split validation, 6 clips (1 view a clip)" in page
    assert all(f"`{row['strategy']}`" in page for row in ranking["rows"])
    strategy = json.loads((folder / "pick.json").read_text())
    assert strategy["format"] == 1 and len(strategy["units"]) == 3


def test_goes_on_where_it_was_interrupted(ranking, workdir, tmp_path, monkeypatch):
    lines = (workdir / "search" / "candidates.jsonl").read_text().splitlines(True)
    (tmp_path / "candidates.jsonl").write_text("".join(lines[:4]))
    scored = []
    score = Scorer.__call__
    monkeypatch.setattr(
        Scorer, "__call__", lambda self, s: scored.append(s) or score(self, s)
    )
    again = rank(
        workdir,
        **{"samples": 5, "uniform": 2, "batches": 2, "include": ["+++", "ST,S,S"]},
        output=tmp_path,
    )
    assert len(scored) == len(ranking["rows"]) - 3
    assert again["rows"] == ranking["rows"] and again["pick"] == ranking["pick"]
    assert (tmp_path / "candidates.jsonl").read_text() == "".join(lines)
    with pytest.raises(UserError, match="another ranking .bn:"):
        rank(workdir, samples=1, batches=1, output=tmp_path)


@pytest.mark.parametrize("batches", [0, 2])
def test_a_masked_template_scores_as_the_network_itself(workdir, batches):
    run = search_run(workdir, "last")
    mesh = make_mesh(devices=jax.devices()[:1])
    source = open_split(run.config, "validation")
    scorer = Scorer(
        run.config, run.model.model, run.variables, source, mesh, batches=batches
    )
    variables = scorer.variables(MIXED)
    config = strategy_config(run, MIXED)
    model = build_model(config, run.spec)
    own = used_variables(model, without_gates(variables), run, config)
    evaluator = create_evaluator(config, model, source, mesh)
    alone, _ = evaluator.scores(own)
    masked, targets = scorer._evaluator.scores(variables)
    assert len(alone) == len(targets) == 6  # of a ragged last batch, too
    np.testing.assert_allclose(masked, alone, atol=1e-5)
    assert scorer(MIXED).metrics == evaluator(own)["metrics"]


def test_one_program_for_all_strategies(workdir):
    run = search_run(workdir, "last")
    mesh = make_mesh(devices=jax.devices()[:1])
    source = open_split(run.config, "validation")
    scorer = Scorer(run.config, run.model.model, run.variables, source, mesh, batches=1)
    for unit in ("S", "ST", "S+ST"):
        scorer((unit,) * 3)
    assert scorer._evaluator._step._cache_size() == 1
    assert scorer._recalibrate._measure._cache_size() == 1


def test_limits(workdir, tmp_path):
    run = search_run(workdir, "last")
    space = create_space(run.config, run.spec)
    most = space.cost(MIXED).macs
    found = rank(workdir, samples=4, batches=0, max_macs=most, output=tmp_path)
    sampled = [row for row in found["rows"] if "sample" in row["from"]]
    assert len(sampled) == 4 and all(row["macs"] <= most for row in sampled)
    assert found["bn"] == "those of the template"
    with pytest.raises(UserError, match=r"max_macs|macs"):
        rank(workdir, samples=4, batches=0, max_macs=10, output=tmp_path / "none")


# --- which clips


def test_never_on_the_reporting_split(workdir, tmp_path):
    with pytest.raises(UserError, match=r"test split would leak.*--allow_leak"):
        rank(workdir, samples=1, split="test", output=tmp_path)
    leaking = rank(
        workdir, samples=1, split="test", allow_leak=True, batches=0, output=tmp_path
    )
    assert leaking["split"] == "test"


def test_a_validation_split_that_is_the_test_split(monkeypatch):
    config = toy_config()
    assert not same_clips(*(open_split(config, s) for s in ("validation", "test")))
    from stjax.training import inputs

    split = inputs._open_split
    monkeypatch.setattr(
        inputs, "_open_split", lambda c, s: split(c, "test" if s != "train" else s)
    )
    with pytest.raises(UserError, match=r"validation split .* is its test split"):
        selection_split(config, "validation", allow_leak=False)
    assert len(selection_split(config, "validation", allow_leak=True)) == 6
    config.search.holdout = 0.25
    assert len(selection_split(config, "validation", allow_leak=False)) == 4


def test_held_out_clips_are_no_training_clips():
    config = toy_config(holdout=0.25)
    train, held = (open_split(config, split) for split in ("train", "validation"))
    assert (len(train), len(held)) == (12, 4)
    assert not set(train.indices) & set(held.indices)
    rng = np.random.default_rng(0)
    whole = open_split(toy_config(), "train")
    for part in (train, held):
        for i, index in enumerate(part.indices):
            ours, theirs = part.clip(i, rng), whole.clip(int(index), rng)
            np.testing.assert_array_equal(ours["input"], theirs["input"])
    with pytest.raises(UserError, match=r"search\.holdout=1\.5"):
        held_out(whole, 1.5, held=True)


# --- numbers


def test_jackknife_of_a_mean():
    x = np.random.default_rng(0).normal(size=150)
    exact = x.std(ddof=1) / np.sqrt(150)
    assert jackknife(lambda k: x[k].mean(), 150) == pytest.approx(exact, rel=1e-9)
    x = np.random.default_rng(0).normal(size=5_000)
    exact = x.std(ddof=1) / np.sqrt(5_000)
    assert jackknife(lambda k: x[k].mean(), 5_000) == pytest.approx(exact, rel=0.2)
    assert np.isnan(jackknife(lambda k: 0.0, 1))


def test_front_and_pick():
    errors, costs = [3.0, 1.0, 1.1, 2.0, 1.0], [1, 5, 2, 3, 4]
    assert choosing.pareto(errors, costs) == [0, 2, 4]
    assert choosing.pick(errors, costs, 0.0) == 4
    assert choosing.pick(errors, costs, 0.15) == 2
    assert choosing.pick(errors, costs, 9.0) == 0


@pytest.mark.parametrize("higher", [True, False])
def test_chosen(higher):
    values = {"a": 0.9, "b": 0.88, "c": 0.5, "d": None}
    rows = [
        {
            "strategy": name,
            "metrics": {"m": value},
            "errors": {"m": 0.03},
            "macs": cost,
            "params": -cost,
        }
        for cost, (name, value) in enumerate(values.items())
    ]
    ranking = {"metric": "m", "higher_is_better": higher, "rows": rows}
    found = choosing.chosen(ranking, "macs", None)
    order = [row["strategy"] for row in found["rows"]]
    assert order == (["a", "b", "c", "d"] if higher else ["c", "b", "a", "d"])
    assert found["tolerance"] == 0.03 and found["pick"] == ("a" if higher else "c")
    assert found["pareto"] == (["a"] if higher else ["a", "b", "c"])
    by_params = choosing.chosen(ranking, "params", 0.5)
    assert by_params["pick"] == "c"


# --- what is refused


def test_rankings_of_another_space(ranking, workdir, tmp_path):
    config = toy_config(units=("block_0=S,ST",))
    run = search_run(workdir, "last")
    space = create_space(config, run.spec)
    with pytest.raises(UserError, match="ranking of another space"):
        read_ranking(workdir / "search" / "ranking.json", space)
    with pytest.raises(UserError, match="stjax search rank makes one"):
        read_ranking(tmp_path / "ranking.json", space)


def test_a_workdir_that_is_no_search(workdir, tmp_path):
    from stjax.search import export

    place = tmp_path / "plain"
    export(workdir, "mode", place, batches=0)
    with pytest.raises(UserError, match="is no search but an ordinary training"):
        rank(place)
    with pytest.raises(UserError, match=r"no config\.json"):
        rank(tmp_path / "nothing")
    score = measured(load_run(place), "validation")
    assert 0 <= score.metrics["top1"] <= 1 and score.clips == 6
    shutil.rmtree(place)
