"""A strategy as an ordinary model: the same function, only its own parameters."""

import json

import jax
import numpy as np
import pytest
from toy_search import predictor_config, resnet_config, write_search

import stjax
from stjax.errors import UserError
from stjax.layers.slots import hard_masks
from stjax.search import export, fidelity, rank, show, standalone
from stjax.search.exporting import retrain, strategy_config
from stjax.search.ranking import search_run
from stjax.search.scoring import without_gates
from stjax.search.space import create_space
from stjax.search.strategy import read_strategy
from stjax.training.inputs import open_split
from stjax.training.state import count_params
from stjax.training.workdir import load_run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_search(tmp_path_factory.mktemp("export") / "run")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor") / "run"
    return write_search(folder, predictor_config())


def clips(spec):
    rng = np.random.default_rng(5)
    return rng.normal(size=(3, *spec.input_shape)).astype(np.float32)


def both(workdir, strategy, output, **fields):
    """What the masked template and the exported model say about some clips."""
    found = export(workdir, strategy, output, batches=0, **fields)
    run, own = search_run(workdir, "last"), load_run(output)
    x, network = clips(run.spec), run.model.model
    masks = hard_masks(network.slots, found["units"])
    whole = jax.jit(lambda v, x: network.apply(v, x, masks=masks))
    part = jax.jit(own.model.apply)
    variables = without_gates(run.variables)
    return found, own, whole(variables, x), part(own.variables, x)


@pytest.mark.parametrize("strategy", ["st+", "+++"])
def test_same_function_with_its_own_parameters(workdir, tmp_path, strategy):
    found, own, expected, got = both(workdir, strategy, tmp_path / "own")
    np.testing.assert_allclose(got, expected, atol=1e-5)
    params = count_params(own.variables["params"])
    run = search_run(workdir, "last")
    space = create_space(run.config, run.spec)
    assert params == found["params"] == space.cost(found["units"]).params
    assert (params < found["template_params"]) == (strategy != "+++")
    assert own.config.search.gate is None and own.step == 7
    assert read_strategy(tmp_path / "own" / "strategy.json", space) == (
        *found["units"],
    )


def test_a_predictor(predictor, tmp_path):
    found, own, expected, got = both(predictor, "small,large", tmp_path / "own")
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert found["params"] < found["template_params"]
    assert own.config.model.units == ("small", "large")
    predict = stjax.load(tmp_path / "own")
    assert predict(np.zeros((2, 16, 16, 1), np.uint8)).shape == (1, 2, 16, 16, 1)


def test_ranking_of_predictors(predictor):
    found = rank(predictor, samples=2, batches=1)
    values = [row["metrics"]["mse"] for row in found["rows"]]
    assert not found["higher_is_better"] and values == sorted(values)
    assert all(row["errors"]["mse"] > 0 for row in found["rows"])
    assert found["views"] == "one prediction a clip" and found["clips"] == 7
    best = found["rows"][0]
    export(predictor, "best", predictor / "best", batches=1)
    again = stjax.evaluate(predictor / "best", split="validation")
    assert again["metrics"]["mse"] == pytest.approx(best["metrics"]["mse"], rel=1e-5)


def test_fused(tmp_path):
    workdir = write_search(tmp_path / "run", resnet_config())
    found, own, expected, got = both(
        workdir, ("S+ST", "S"), tmp_path / "own", fuse=True
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert found["fused"] == ["ST", "S"] and own.config.model.units == ("ST", "S")
    run = search_run(workdir, "last")
    space = create_space(run.config, run.spec)
    assert found["params"] == space.cost(("ST", "S")).params
    assert found["macs"] == space.cost(("ST", "S")).macs


def test_nothing_to_fuse(workdir, tmp_path):
    with pytest.raises(UserError, match="cannot be fused"):
        export(workdir, "+++", tmp_path / "own", batches=0, fuse=True)


def test_batch_statistics_are_those_of_its_ranking(workdir, tmp_path):
    found = rank(workdir, samples=1, batches=2, output=tmp_path / "r")
    row = next(r for r in found["rows"] if r["strategy"] == "ttt")
    export(workdir, "ttt", tmp_path / "own", batches=2)
    again = stjax.evaluate(tmp_path / "own", split="validation")
    assert again["metrics"] == row["metrics"]


def test_load_and_evaluate(workdir, tmp_path):
    about = export(workdir, "mode", tmp_path / "own", batches=1)
    assert about["strategy"] == "st+"
    recognise = stjax.load(tmp_path / "own")
    assert recognise(np.zeros((4, 8, 8, 1), np.uint8)).shape == (1, 4)
    assert json.loads((tmp_path / "own" / "export.json").read_text())["step"] == 7


def test_what_cannot_be_exported(workdir, tmp_path):
    export(workdir, "mode", tmp_path / "own", batches=0)
    with pytest.raises(UserError, match="holds a run already"):
        export(workdir, "mode", tmp_path / "own", batches=0)
    with pytest.raises(UserError, match="stjax search rank makes one"):
        export(workdir, "pick", tmp_path / "other")
    with pytest.raises(UserError, match="no strategy: expected"):
        export(workdir, "???", tmp_path / "other")
    with pytest.raises(UserError, match="is no search"):
        export(tmp_path / "own", "mode", tmp_path / "other")


def test_retraining_inherits_or_begins_anew(workdir, tmp_path):
    results = retrain(workdir, "tts", tmp_path / "run", init="inherit")
    run = load_run(tmp_path / "run")
    assert results["params"] == count_params(run.variables["params"])
    assert run.config.train.init_from == str(tmp_path / "run" / "inherited")
    assert retrain(workdir, "tts", tmp_path / "run", init="inherit") == results
    with pytest.raises(UserError, match="unknown init 'warm'"):
        retrain(workdir, "tts", tmp_path / "other", init="warm")
    with pytest.raises(UserError, match="another config"):
        retrain(workdir, "tts", tmp_path / "run", changes={"train.steps": 3})


def test_a_strategy_begins_where_the_template_began(workdir):
    run = search_run(workdir, "last")
    run.config.unlock()
    run.config.search.holdout = 0.25
    config = strategy_config(run, ("ST",) * 3)
    assert config.model.units == "ST" and config.search.holdout == 0.25
    assert len(open_split(config, "train")) == 12


def test_pictures_and_numbers(predictor, monkeypatch):
    """Of a ranking and of strategies that were "trained" to be what they were."""

    def copy(workdir, units, place, **_):
        return export(workdir, units, place, batches=1)

    monkeypatch.setattr(standalone, "retrain", copy)
    ranking = rank(predictor, samples=3, batches=1)
    report = fidelity(predictor, count=3)
    assert len(report["rows"]) == 3
    for row in report["rows"]:
        assert row["alone"] == pytest.approx(row["template"], rel=1e-5)
    assert report["kendall"]["value"] == pytest.approx(1)
    assert report["spearman"]["value"] == pytest.approx(1)
    assert report["regret"] == 0
    page = (predictor / "search" / "fidelity" / "fidelity.md").read_text()
    assert "Kendall tau-b 1.00" in page and "3 strategies" in page
    found = show(predictor)
    assert found["marked"] == ranking["best"] and found["mode"] == "sl"
    assert found["fidelity"]["regret"] == 0 and found["space"]["size"] == 9
    written = json.loads((predictor / "search" / "search.json").read_text())
    assert written["pictures"] == ["marginals.png", "pareto.png", "fidelity.png"]
    for name in written["pictures"]:
        assert (predictor / "search" / name).stat().st_size > 5_000
    with pytest.raises(UserError, match="take 3 or more"):
        fidelity(predictor, count=2)
    rows = [row["strategy"] for row in ranking["rows"]]
    missing = next(s for s in ("sb", "bs", "lb", "bl", "ls", "ll") if s not in rows)
    with pytest.raises(UserError, match="not in the ranking"):
        fidelity(predictor, strategies=[missing])
