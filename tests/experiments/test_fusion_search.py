"""Criteria that can fail, and strategies trained alone by one compiled step."""

import itertools
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from stjax.config import load_config
from stjax.data.known_answers import ladder_accuracy
from stjax.search.space import plain_config
from stjax.sharding.mesh import put_batch
from stjax.training import inputs
from stjax.training.setup import prepare

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import fusion_criteria
import fusion_search
from fusion_alone import Alone


def ladder_row(accuracy, seed=0):
    """A template that has these accuracies by temporal layers."""
    names = fusion_search.SCORED["order_ladder"]
    found = {
        s: accuracy[fusion_criteria.layers_of(s)] + 1e-4 * k
        for k, s in enumerate(names)
    }
    on = {f"block_{i}": {"s": 0.5, "t": 0.97} for i in range(4)}
    return {
        "seed": seed,
        "clips": 1000,
        "accuracy": found,
        "not_recalibrated": dict.fromkeys(found, 0.5) | {"tttt": 0.7},
        "macs": {s: 1000 - s.count("s") for s in names},
        "log_prob": dict.fromkeys(names, -3.0),
        "posterior": {"path_on": on, "mode": ["ST"] * 4, "marginals": {}},
    }


TRUE = [ladder_accuracy(n) for n in range(5)]


def outcome(accuracy):
    rows = {"search": {"order_ladder": [ladder_row(accuracy)]}, "alone": {}}
    found = {}
    for check in fusion_criteria.measured(rows):
        if check["passed"] is not None:
            found[check["name"]] = found.get(check["name"], True) & check["passed"]
    return found


NEAR = [0.5, 0.66, 0.83, 0.985, 0.99]


def test_the_truth_passes():
    assert all(outcome(NEAR).values())
    assert set(outcome(NEAR)) == {"B1", "B2", "B3", "B4", "B6"}


@pytest.mark.parametrize(
    ("accuracy", "missed"),
    [
        ([1.0] * 5, {"B1", "B4"}),  # time leaks, or masks do nothing
        ([0.5, 0.75, 0.83, 0.99, 0.99], {"B4"}),  # one layer sees too much
        ([0.5, 0.66, 0.6, 0.97, 0.98], {"B4"}),
        ([0.5, 0.6, 0.7, 0.8, 0.9], {"B2"}),  # badly trained
        ([0.5, 0.83, 0.66, 0.6, 0.96], {"B3", "B4"}),
    ],
)
def test_what_is_wrong_is_seen(accuracy, missed):
    found = outcome(accuracy)
    assert not any(found[name] for name in missed)


def test_strategies_alone_are_stratified():
    names = fusion_search.stratified(24)
    assert names[:16] == fusion_search.stratified(16)
    layers = [fusion_criteria.layers_of(s) for s in names]
    assert len(set(names)) == 24
    assert [layers.count(n) for n in range(5)] == [1, 6, 6, 6, 5]


def test_masked_training_is_that_of_the_network():
    """Same weights and clips: the same weights after three steps."""
    config = load_config("fusion/order_ladder:miniature")
    with config.unlocked():
        config.model.depth = 2
    units = ("S+ST", "S")
    alone = Alone(config, steps=3)
    masked = alone.train(units, seed=5)
    plain = plain_config(config, units)
    with plain.unlocked():
        plain.seed = 5
        plain.train.update(steps=3, precise_bn=None)
    setup = prepare(plain)
    state, step = setup.fresh_state(), jax.jit(setup.train_step)
    dataset = inputs.make_dataset(plain, setup.sources["train"], train=True)
    for k in range(3):
        batch = {key: v for key, v in dataset[k].items() if key != "replaced"}
        state, _ = step(state, put_batch(setup.mesh, batch))
    assert "t" in masked.params["block_1"] and "t" not in state.params["block_1"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        other = masked.params
        for key in path:
            other = other[key.key]
        np.testing.assert_allclose(other, leaf, atol=2e-5)


def test_table(tmp_path):
    folder = epath.Path(tmp_path)
    file = folder / "search" / "order_ladder" / "0.json"
    row = fusion_search.kept(file, lambda: ladder_row(NEAR))
    assert row == fusion_search.kept(file, lambda: 1 / 0)  # done already
    for s, seed in itertools.product(fusion_search.PATTERNS, (0, 1)):
        accuracy = TRUE[fusion_criteria.layers_of(s)]
        who = {"strategy": s, "seed": seed, "test": accuracy}
        file = folder / "alone" / "order_ladder" / f"{s}_{seed}.json"
        fusion_search.kept(file, lambda w=who: w)
    text = fusion_search.write_table(folder)
    values = json.loads((folder / "table.json").read_text())
    assert len(values["rows"]["alone"]["order_ladder"]) == 32
    assert "| B5 | regret, alone | <= 0.02 |  | 0 | 0 | passed |" in text
    assert "| order_ladder | 0 | 16 | " in text and "**missed**" not in text
