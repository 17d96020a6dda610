"""A search finds the known answer: the ladder of temporal layers, one seed, small.

With five seeds, other tasks and strategies trained alone: experiments/fusion_search.py,
whose figures are in experiments/fusion_search.md.
"""

import itertools
import math

import jax
import numpy as np
import pytest

from stjax.config import load_config, validate
from stjax.data.known_answers import ladder_accuracy
from stjax.search import Posterior, fit
from stjax.search.agreement import kendall, spearman
from stjax.search.scoring import Scorer
from stjax.sharding.mesh import make_mesh
from stjax.training import inputs
from stjax.training.workdir import load_run

CLIPS = 800
PATTERNS = tuple(itertools.product(("S", "ST"), repeat=4))
BOUNDS = [ladder_accuracy(pattern.count("ST")) for pattern in PATTERNS]


@pytest.fixture(scope="module")
def mesh():
    """One of the simulated devices: eight on two cores only wait for each other."""
    return make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def ladder(tmp_path_factory, mesh):
    """A template on frames of 8x8, and the accuracies of all patterns."""
    config = load_config("fusion/order_ladder")
    with config.unlocked():
        config.data.update(size=8, eval_clips=CLIPS)
    config.train.update(steps=450, eval_every=450, precise_bn=None)
    config.search.warmup = ("train.steps=250", "train.eval_every=250")
    config.mesh.data = 1
    folder = tmp_path_factory.mktemp("ladder")
    fit(config, folder)
    run = load_run(folder, "last", mesh)
    source = inputs.open_split(run.config, "validation")
    scorer = Scorer(run.config, run.model.model, run.variables, source, mesh, 8)
    found = [scorer(pattern).metrics["top1"] for pattern in PATTERNS]
    return Posterior.of(run.model, run.variables), found


def test_ranking_is_that_of_the_theory(ladder):
    _, accuracy = ladder
    assert spearman(BOUNDS, accuracy) >= 0.85
    assert kendall(BOUNDS, accuracy) >= 0.7


def test_no_strategy_beats_its_bound(ladder):
    """It would see frames that it cannot see: a leak of time, or masks that fail."""
    for pattern, bound, accuracy in zip(PATTERNS, BOUNDS, ladder[1], strict=True):
        error = math.sqrt(bound * (1 - bound) / CLIPS)
        assert accuracy <= bound + 3 * error, pattern


def test_time_is_found(ladder):
    posterior, accuracy = ladder
    best = PATTERNS[int(np.argmax(accuracy))]
    assert max(accuracy) >= 0.95 and best.count("ST") >= 3
    assert accuracy[0] == pytest.approx(0.5, abs=0.05)
    assert max(paths["t"] for paths in posterior.path_on().values()) >= 0.9
    assert sum(unit != "S" for unit in posterior.mode()) >= 3
    assert posterior.moved_from_init()["moved"]


@pytest.mark.parametrize("task", ["order_ladder", "appearance", "shape_and_drift"])
def test_configs(task):
    config = load_config(f"fusion/{task}")
    source = inputs.open_split(config, "train")
    assert config.data.source == task and config.search.gate == "categorical"
    # Gates are not born with a preference, and a path of mean cost costs less than the
    # labels of the training set are worth in nats: one that is needed can stay.
    assert config.search.p_init == 0.5
    worth = len(source) * math.log(len(source.spec.classes))
    assert 0 <= config.search.cost_weight < worth
    validate(load_config(f"fusion/{task}:miniature"))


def test_variants():
    free = load_config("fusion/appearance:free")
    assert free.search.cost_weight == 0
    control = load_config("fusion/shape_and_drift:shuffled")
    assert control.data.shuffle and control.search.cost_weight > 0
