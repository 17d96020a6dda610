"""Agreement of two orders: closed forms, and SciPy's where it has one."""

import math

import numpy as np
import pytest
from scipy import stats

from stjax.search import agreement
from stjax.search.standalone import markdown, report_of

X = [1.0, 2.0, 3.0, 4.0, 5.0]


def test_orders():
    assert agreement.spearman(X, X) == pytest.approx(1)
    assert agreement.kendall(X, X[::-1]) == pytest.approx(-1)
    y = [2.0, 1.0, 3.0, 5.0, 4.0]
    # d^2 = 1 + 1 + 0 + 1 + 1: 1 - 6 * 4 / (5 * 24); 8 of 10 pairs agree.
    assert agreement.spearman(X, y) == pytest.approx(0.8)
    assert agreement.kendall(X, y) == pytest.approx(0.6)
    assert math.isnan(agreement.spearman(X, [1.0] * 5))
    assert math.isnan(agreement.kendall(X, [1.0] * 5))


def test_ties():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, 20), rng.integers(0, 4, 20)
    assert agreement.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    # tau-b by hand: one tie in x of two entries.
    assert agreement.kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(6))


def test_within_groups():
    """Two clouds that agree as clouds, and in which nothing agrees."""
    x = [1.0, 2.0, 3.0, 11.0, 12.0, 13.0]
    y = [3.0, 2.0, 1.0, 13.0, 12.0, 11.0]
    groups = ["low"] * 3 + ["high"] * 3
    assert agreement.spearman(x, y) > 0.5
    assert agreement.within(x, y, groups) == pytest.approx(-1)
    assert math.isnan(agreement.within([1.0, 2.0], [1.0, 2.0], ["a", "b"]))


def test_intervals():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = 0.8 * x + 0.6 * rng.normal(size=200)  # correlation .8
    low, high = agreement.interval(agreement.spearman, x, y)
    assert low < agreement.spearman(x, y) < high
    # Of n = 200, Fisher's interval is +-.14 wide on the z scale.
    z = math.atanh(agreement.spearman(x, y))
    assert low == pytest.approx(math.tanh(z - 0.14), abs=0.03)
    assert high == pytest.approx(math.tanh(z + 0.14), abs=0.03)
    assert all(map(math.isnan, agreement.interval(agreement.spearman, X[:3], X[:3])))
    assert agreement.interval(agreement.kendall, X, X) == pytest.approx((1, 1))


@pytest.mark.parametrize("higher", [True, False])
def test_report(higher):
    sign = 1 if higher else -1
    template, alone = [0.9, 0.8, 0.7, 0.1], [0.85, 0.95, 0.6, 0.2]
    rows = [
        {
            "strategy": name,
            "group": 0,
            "template": sign * t,
            "alone": sign * a,
            **{"template_error": 0.1, "alone_error": None, "params": 5, "macs": 6},
        }
        for name, t, a in zip("abcd", template, alone, strict=True)
    ]
    ranking = {
        **{"metric": "m", "higher_is_better": higher, "pick": "c", "model": "toy"},
        **{"space": "0", "split": "validation", "template": "run", "bn": "its own"},
    }
    found = report_of(rows, ranking, "scratch", "validation")
    # The template's first is .10 worse than the best of them, its pick .35.
    assert found["regret"] == pytest.approx(0.1)
    assert found["regret_pick"] == pytest.approx(0.35)
    assert [row["strategy"] for row in found["rows"]] == ["b", "a", "c", "d"]
    assert found["spearman"]["value"] == pytest.approx(0.8)
    page = markdown(found)
    assert "regret of the template's first of these: 0.1, of its pick: 0.35" in page
    assert "| `b` | 0.95 |" in page if higher else "| `b` | -0.95 |" in page
