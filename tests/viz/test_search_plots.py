"""Plots of a search: they fit, show what they should, refuse what they cannot."""

import numpy as np
import pytest

from stjax.errors import UserError
from stjax.search.choosing import chosen
from stjax.viz.marginals import marginals, trajectories
from stjax.viz.pareto import agreement, pareto
from stjax.viz.plot import COLOURS

UNITS = ("S", "ST", "S+ST")


def share(picture, colour):
    """How much of a picture has a colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(picture.astype(int) - rgb).max(-1) < 12).mean()


def test_bars_are_as_high_as_probable():
    bars = marginals(["a", "b"], UNITS, [[0.6, 0.3, 0.1]] * 2)
    whole = marginals(["a", "b"], UNITS, [[1.0, 0.0, 0.0]] * 2)
    legend = share(marginals(["a", "b"], UNITS, [[0.0] * 3] * 2), COLOURS[0])
    ratio = (share(bars, COLOURS[0]) - legend) / (share(whole, COLOURS[0]) - legend)
    assert ratio == pytest.approx(0.6, abs=0.02)


def test_sixty_one_layers_fit():
    names = [f"features/denseblock{i // 20}/layer{i % 20}" for i in range(61)]
    p = np.random.default_rng(0).dirichlet([1, 1, 1], 61)
    p[3] = np.nan
    picture = marginals(names, UNITS, p, ["ST"] * 61, "a title")
    assert picture.dtype == np.uint8 and picture.shape[1] > 1_800
    margin = picture[:, -3:]
    assert (margin == 255).all()  # nothing is cut off
    lines = trajectories(names, UNITS, [0, 10, 20], np.stack([p] * 3))
    assert lines.shape[1] > 1_000


def ranking(higher=True):
    rng = np.random.default_rng(0)
    rows = [
        {
            "strategy": f"x{i}",
            "metrics": {"top1": float(rng.random()) if i else None},
            "errors": {"top1": 0.02 if i % 2 else None},
            "macs": 1_000 * i,
            "params": 10 * i,
            "from": [("sample", "uniform sample", "all S")[i % 3]],
        }
        for i in range(9)
    ]
    head = {"metric": "top1", "higher_is_better": higher, "split": "validation"}
    return chosen({**head, "rows": rows}, "macs", None)


def test_front():
    picture = pareto(ranking())
    assert share(picture, COLOURS[4]) > 1e-3
    with pytest.raises(UserError, match="no strategy of the ranking has a top1"):
        pareto({**ranking(), "rows": ranking()["rows"][-1:]})


def test_agreement():
    rows = [
        {
            "group": i % 2,
            "template": i / 5,
            "alone": i / 4,
            "template_error": 0.1,
            "alone_error": None,
        }
        for i in range(5)
    ]
    found = {"value": 1.0, "interval": [None, None]}
    report = {
        **{"rows": rows, "metric": "mse", "higher_is_better": False, "split": "test"},
        **{"groups": "paths", "spearman": found, "kendall": found},
    }
    assert share(agreement(report), COLOURS[1]) > 1e-4


def test_shapes_that_do_not_fit():
    with pytest.raises(UserError, match=r"expected 1 slots and 3 units"):
        marginals(["a"], UNITS, np.zeros((2, 3)))
    with pytest.raises(UserError, match=r"expected 2 steps"):
        trajectories(["a"], UNITS, [1, 2], np.zeros((3, 1, 3)))
