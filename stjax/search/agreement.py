"""How well one list of scores tells the order of another."""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy import stats

_DRAWS = 1_000


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation, ties with mean ranks; NaN where one list is constant."""
    return _pearson(stats.rankdata(x), stats.rankdata(y))


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's tau-b: concordant minus discordant pairs, with its share for ties."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return math.nan
    return float(stats.kendalltau(x, y, variant="b").statistic)


def within(x: Sequence[float], y: Sequence[float], groups: Sequence[Hashable]) -> float:
    """Rank correlation inside of groups, pooled.

    Ranks are taken in each group and centred there, so that differences between groups
    count for nothing: where strategies fall into good and bad ones, `spearman` is high
    for that alone.
    """
    found = []
    for group in dict.fromkeys(groups):
        mine = [i for i, other in enumerate(groups) if other == group]
        ranks = [stats.rankdata([values[i] for i in mine]) for values in (x, y)]
        found.append([r - r.mean() for r in ranks])
    a, b = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _pearson(a, b)


def interval(
    statistic: Callable[..., float], *lists: Sequence, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of 95 %: the entries are drawn again, all lists alike.

    Draws for which the statistic is not defined are left out. NaN for less than 4
    entries.
    """
    count = len(lists[0])
    if count < 4:
        return math.nan, math.nan
    rng, found = np.random.default_rng(seed), []
    for _ in range(_DRAWS):
        some = rng.integers(count, size=count)
        found.append(statistic(*([values[i] for i in some] for values in lists)))
    found = np.array(found)[np.isfinite(found)]
    if not len(found):
        return math.nan, math.nan
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else math.nan
