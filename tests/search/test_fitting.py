"""Fitting a template: two phases, taken up again, and what they leave behind."""

import json

import jax
import numpy as np
import pytest

import stjax
from stjax.config import base_config
from stjax.errors import UserError
from stjax.search.fitting import fit, trajectory, warmup_config
from stjax.search.posterior import Posterior
from stjax.search.template import Template
from stjax.training.workdir import load_run


def searching(**search):
    """A search over one slot and a fixed one: 4 steps, 2 before without gates."""
    config = base_config()
    with config.unlocked():
        config.model.update({"name": "fusion_toy", "depth": 2, "width": 2})
        config.data.source = "order_ladder"
        config.data.update({"train_clips": 24, "eval_clips": 8, "size": 4, "batch": 8})
        config.loss.name = "cross_entropy"
        config.optim.update({"schedule": "constant", "clip": 1.0})
        config.train.update({"steps": 4, "eval_every": 2, "precise_bn": 1})
        config.search.update(
            {
                "gate": "categorical",
                "units": ("block_1=ST",),
                "weight_reg": 0.1,
                "warmup": ("train.steps=2", "optim.weight_decay=1e-3"),
                **search,
            }
        )
    return config.lock()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("fit")
    return workdir, fit(searching(), workdir)


def params(workdir, step="last"):
    return jax.device_get(load_run(workdir, step).variables["params"])


def test_two_phases(run):
    workdir, results = run
    first, second = load_run(workdir / "warmup", "last"), load_run(workdir, "last")
    assert (first.step, second.step, results["steps"]) == (2, 4, 4)
    assert not isinstance(first.model, Template) and isinstance(second.model, Template)
    assert (first.config.optim.weight_decay, second.config.optim.weight_decay) == (
        1e-3,
        None,
    )
    assert second.config.train.init_from == "{workdir}/warmup"
    # block_1 is always ST: the path s is not built there, in neither phase.
    for found in (first, second):
        assert set(found.variables["params"]["block_1"]) == {
            *("t", "bn", "conv", "conv_bn")
        }
        assert {"s", "t"} <= set(found.variables["params"]["block_0"])
    gates = second.variables["params"]["gates"]
    assert {k: v.shape for k, v in gates.items()} == {"block_0": (3,), "block_1": (1,)}
    assert second.config.search.n_train is None
    evaluated = stjax.evaluate(workdir)
    assert evaluated["metrics"] == pytest.approx(results["metrics"])


def test_trajectories_of_the_gates(run):
    workdir, _ = run
    steps, found = trajectory(workdir)
    np.testing.assert_array_equal(steps, [2, 4])
    assert {k: set(v) for k, v in found.items()} == {
        "block_0": {"S", "ST", "S+ST"},
        "block_1": {"ST"},
    }
    posterior = Posterior.from_workdir(workdir)
    for slot, of in posterior.marginals().items():
        for unit, p in of.items():
            np.testing.assert_allclose(found[slot][unit][-1], p, rtol=1e-5)
    # Adam with lr .01: each logit went up to .01 a step from 1/11, 1/11, 9/11.
    moved = posterior.logits["block_0"] - posterior.start().logits["block_0"]
    assert 0.01 < abs(moved).max() <= 0.0401
    told = posterior.moved_from_init()
    assert (
        not told["moved"] and 0 < told["max"] < 0.05 and told["slots"]["block_1"] == 0
    )
    json.dumps(posterior.to_dict())
    with pytest.raises(UserError, match="without gates"):
        Posterior.from_workdir(workdir / "warmup")
    with pytest.raises(UserError, match="no gates in metrics.jsonl"):
        trajectory(workdir / "warmup")


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


def test_going_on_ends_with_the_same_weights(run, tmp_path, monkeypatch):
    """Killed in the first phase and in the second: as if it had not been.

    Between the two the workdir is moved.
    """
    from stjax.training import loop

    put, count = loop.put_batch, []

    def dies(mesh, batch):
        count.append(1)
        if len(count) in (2, 9):  # of step 2, and of step 4 with gates
            raise Killed
        return put(mesh, batch)

    config = searching()
    with config.unlocked():
        config.train.save_every = 1
    monkeypatch.setattr(loop, "put_batch", dies)
    before, tmp_path = tmp_path / "before", tmp_path / "after"
    for phase in (before / "warmup", before):
        with pytest.raises(Killed):
            fit(config, before)
        assert phase.is_dir() and not (phase / "results.json").exists()
    assert (before / "warmup" / "results.json").exists()
    before.rename(tmp_path)
    monkeypatch.undo()
    results = fit(config, tmp_path)
    assert results["metrics"] == run[1]["metrics"]
    jax.tree.map(np.testing.assert_array_equal, params(run[0]), params(tmp_path))
    assert fit(config, tmp_path)["metrics"] == results["metrics"]  # nothing to do
    other = searching(warmup=("train.steps=3",))
    with pytest.raises(UserError, match="another config"):
        fit(other, tmp_path)


def test_the_phase_without_gates():
    config = searching(warmup=("train.epochs=2", "loss.name=cross_entropy"))
    first = warmup_config(config)
    assert (first.train.steps, first.train.epochs, first.search.gate) == (None, 2, None)
    assert first.model.units == ("all", "ST")
    for text, message in (
        ("epochs=2", "expected SECTION.FIELD=VALUE"),
        ("train.epoch=2", "did you mean 'train.epochs'"),
        ("trian.epochs=2", "did you mean 'train'"),
        ("train.epochs=two", "expected int"),
    ):
        with pytest.raises(UserError, match=message):
            warmup_config(searching(warmup=(text,)))
    with pytest.raises(UserError, match="search.gate is not set"):
        fit(searching(gate=None), "nowhere")
