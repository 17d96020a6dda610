"""What a search on tasks of known answers has to fulfil, and what it did.

Every check has a value for each template (a seed each) and a limit; it passes if the
median of the values does, or, for those of appearance, four of five values (80 %).
Limits of `PROPOSED` are proposals of the plan, to be replaced by what nine of ten
correct builds fulfil: with `PILOT` templates or more a check of them tells that, too.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from stjax.data.known_answers import ladder_accuracy
from stjax.search.agreement import kendall, spearman

PROPOSED = ("A2", "B3", "C3", "C4")
PILOT = 5
CONTROLLED = ("A3", "B6", "C3", "C5")
INIT = 2 / 3  # probability that a temporal path is on, before training


def check(
    name: str, what: str, values: Sequence, least=None, most=None, rule="median"
) -> dict:
    """A criterion with its values; neither `least` nor `most`: only reported."""
    values = [float(v) for v in values]
    low = -math.inf if least is None else least
    high = math.inf if most is None else most
    fine = [low <= v <= high for v in values]
    middle = float(np.median(values)) if values else math.nan
    pilot = name in PROPOSED and len(values) >= PILOT
    passed = low <= middle <= high if rule == "median" else np.mean(fine or [0]) >= 0.8
    return {
        "name": name,
        "what": what,
        "values": values,
        "least": least,
        "most": most,
        "rule": rule,
        "passed": bool(passed) if values else None,
        "piloted": tenth(values, least) if pilot else None,
    }


def tenth(values: Sequence[float], least: float | None) -> float:
    """What nine of ten values fulfil: at least, where there is a least, or at most."""
    return float(np.percentile(values, 90 if least is None else 10))


def layers_of(strategy: str) -> int:
    """How many layers have a temporal path."""
    return len(strategy) - strategy.count("s")


def temporal(row: dict) -> list[float]:
    """Probability of every layer's temporal path."""
    return [paths["t"] for paths in row["posterior"]["path_on"].values()]


def modes(row: dict) -> list[str]:
    """The most probable unit of every layer."""
    return row["posterior"]["mode"]


def best(row: dict) -> str:
    """The strategy that scores highest; of equals the cheapest."""
    found = row["accuracy"]
    return min(found, key=lambda s: (-found[s], row["macs"][s], s))


def pick(row: dict, loss: float = 0.01) -> str:
    """The cheapest within one point of the best."""
    found = row["accuracy"]
    least = max(found.values()) - loss
    near = [s for s in found if found[s] >= least]
    return min(near, key=lambda s: (row["macs"][s], -found[s], s))


def drawn(row: dict, count: int, uniform: bool = False) -> list[float]:
    """Accuracies of strategies drawn from the posterior, or all alike."""
    rng = np.random.default_rng(row["seed"])
    names = list(row["accuracy"])
    p = np.exp([row["log_prob"][s] for s in names])
    some = rng.choice(names, count, p=None if uniform else p / p.sum())
    return [row["accuracy"][s] for s in some]


def trained(rows: Sequence[dict]) -> dict[str, float]:
    """Test accuracy of strategies trained alone, mean over seeds."""
    found = {}
    for row in rows:
        found.setdefault(row["strategy"], []).append(row["test"])
    return {s: float(np.mean(values)) for s, values in found.items()}


def appearance(rows: list[dict], free: list[dict], alone: list[dict]) -> list[dict]:
    """A1 to A4."""
    by = {(row["strategy"], row["seed"]): row["test"] for row in alone}
    seeds = sorted({seed for s, seed in by if ("ssss", seed) in by} - {None})
    pairs = [(by["ssss", k], by["++++", k]) for k in seeds if ("++++", k) in by]
    most = {"rule": "most"}
    sampled = [
        np.ptp([row["accuracy"][s] for s in row["sampled"]])
        for row in free
        if "sampled" in row
    ]
    spreads = [np.ptp(list(row["accuracy"].values())) for row in free]
    spatial = [modes(row).count("S") for row in rows]
    chances = [np.mean(temporal(row)) for row in rows]
    return [
        check("A1", "S minus S+ST, alone", [a - b for a, b in pairs], -0.02, **most),
        check("A1", "worse of both, alone", map(min, pairs), 0.95, **most),
        check("A2", "layers whose mode is S", spatial, 3, **most),
        check("A2", "mean P(t on)", chances, None, 0.5, **most),
        check("A3", "spread over 50 samples, no cost", sampled, None, 0.03, **most),
        check("A3", "over all of S and ST as well", spreads, None, 0.03, **most),
        check("A4", "pick is S", [pick(r) == "ssss" for r in rows], 1, **most),
    ]


def order_ladder(rows: list[dict], alone: list[dict]) -> list[dict]:
    """B1 to B6."""
    plain = [s for s in rows[0]["accuracy"] if "+" not in s]
    both = [s for s in rows[0]["accuracy"] if "t" not in s]
    bound = {s: ladder_accuracy(layers_of(s)) for s in {*plain, *both}}

    def orders(row, statistic, key="accuracy", names=plain):
        return statistic([bound[s] for s in names], [row[key][s] for s in names])

    def over(row, strategy):
        """Standard errors above the bound."""
        b = bound[strategy]
        error = math.sqrt(max(b * (1 - b), 1e-12) / row["clips"])
        return (row["accuracy"][strategy] - b) / error

    def steps(row):
        values = {s: v for s, v in row["accuracy"].items() if s in bound}
        means = [
            np.mean([v for s, v in values.items() if layers_of(s) == n])
            for n in range(5)
        ]
        return min(np.diff(means))

    separate = trained(alone)
    regrets = [
        max(separate.values()) - separate[max(plain, key=row["accuracy"].get)]
        for row in rows
        if separate.keys() >= set(plain)
    ]
    gains = [
        orders(row, spearman) - orders(row, spearman, "not_recalibrated")
        for row in rows
    ]
    counts = [
        layers_of("".join("s" if u == "S" else "t" for u in modes(r))) for r in rows
    ]
    return [
        check("B1", "accuracy without temporal layer", _of(rows, "ssss"), 0.45, 0.55),
        check("B2", "best accuracy", [max(r["accuracy"].values()) for r in rows], 0.95),
        check("B2", "its temporal layers", [layers_of(best(r)) for r in rows], 3),
        check("B2", "largest P(t on)", [max(temporal(r)) for r in rows], 0.95),
        check("B2", "temporal layers of the mode", counts, 3),
        check("B3", "Spearman, S and ST", [orders(r, spearman) for r in rows], 0.85),
        check(
            "B3",
            "Spearman, S and S+ST",
            [orders(r, spearman, names=both) for r in rows],
            0.85,
        ),
        check("B3", "Kendall, S and ST", [orders(r, kendall) for r in rows], 0.7),
        check(
            "B3",
            "Kendall, S and S+ST",
            [orders(r, kendall, names=both) for r in rows],
            0.7,
        ),
        check("B4", "least step of mean accuracy from n to n+1", map(steps, rows), 0),
        check(
            "B4",
            "largest excess over the bound, in standard errors",
            [max(over(r, s) for s in bound) for r in rows],
            None,
            3,
        ),
        check("B5", "regret, alone", regrets, None, 0.02),
        check("B6", "Spearman gained by recalibration", gains, 0),
    ]


def _of(rows: list[dict], strategy: str) -> list[float]:
    return [row["accuracy"][strategy] for row in rows]


def shape_and_drift(
    rows: list[dict], shuffled: list[dict], alone: list[dict]
) -> list[dict]:
    """C1 to C6."""
    separate = trained(alone)
    draws = [(drawn(row, 50), drawn(row, 50, uniform=True)) for row in rows]
    tests = [stats.mannwhitneyu(*pair, alternative="greater").pvalue for pair in draws]
    chances = [temporal(row) for row in rows]
    picks = [pick(row) for row in rows]
    mixed = [
        "s" in p and layers_of(p) > 0 and row["macs"][p] < row["macs"]["tttt"]
        for p, row in zip(picks, rows, strict=True)
    ]
    pairs = [spearman(a, b) for a, b in itertools.combinations(chances, 2)]
    return [
        check("C1", "accuracy of S", _of(rows, "ssss"), None, 0.55),
        check(
            "C1",
            "of S, alone",
            [separate[s] for s in ("ssss",) if s in separate],
            None,
            0.55,
        ),
        check("C1", "best accuracy", [max(r["accuracy"].values()) for r in rows], 0.92),
        check("C2", "largest P(t on)", map(max, chances), 0.9),
        check("C2", "layers whose mode is S", [modes(r).count("S") for r in rows], 1),
        check("C2", "pick is mixed and cheaper than ST", mixed, 1),
        *against(rows, separate, "learned gates"),
        check("C4", "p, samples against uniform ones", tests, None, 0.01),
        check("C5", "mean P(t on), shuffled", map(_mean, shuffled), None, INIT),
        check(
            "C5",
            "best accuracy, shuffled",
            [max(r["accuracy"].values()) for r in shuffled],
            None,
            0.55,
        ),
        check(
            "C6",
            "Spearman of P(t on) between seeds",
            [np.nanmean(pairs)] if pairs else [],
        ),
    ]


def against(rows: list[dict], separate: dict[str, float], which: str) -> list[dict]:
    """C3: templates against strategies that were trained alone."""
    values, names = list(separate.values()), list(separate)
    seen = [[row["accuracy"][s] for s in names] for row in rows] if names else []
    regrets = [max(values) - values[int(np.argmax(of))] for of in seen]
    orders = [spearman(of, values) for of in seen]
    return [
        check("C3", f"Spearman with alone, {which}", orders, 0.7),
        check("C3", f"regret, alone, {which}", regrets, None, 0.02),
    ]


def _mean(row: dict) -> float:
    return float(np.mean(temporal(row)))


def measured(rows: dict) -> list[dict]:
    """All checks for which there are rows; those of controls are only reported."""
    alone = rows["alone"]
    found = checks_of(rows["search"], alone)
    controls = {
        task.removesuffix("_published"): of
        for task, of in rows["search"].items()
        if task.endswith("_published")
    }
    none = dict.fromkeys(("least", "most", "piloted"))
    found += [
        of | none | {"what": f"{of['what']}, as published"}
        for of in checks_of(controls, alone)
        if of["name"] in CONTROLLED and of["values"]
    ]
    return sorted(found, key=lambda of: of["name"])


def checks_of(search: dict, alone: dict) -> list[dict]:
    """The checks of all tasks that there are templates of."""
    found, separate = [], alone.get("shape_and_drift", [])
    if "appearance" in search:
        free = search.get("appearance_free", [])
        found += appearance(search["appearance"], free, alone.get("appearance", []))
    if "order_ladder" in search:
        found += order_ladder(search["order_ladder"], alone.get("order_ladder", []))
    if "shape_and_drift" in search:
        shuffled = search.get("shuffled", [])
        found += shape_and_drift(search["shape_and_drift"], shuffled, separate)
        uniform, noisy = search.get("uniform", []), search.get("noisy", [])
        found += against(uniform, trained(separate), "all drawn alike")
        found += against(noisy, trained(alone.get("noisy", [])), "more noise")
    return found
