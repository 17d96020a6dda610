"""From scores and costs to a choice: order, Pareto front, pick; and their table."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

COSTS = ("macs", "params")


def error_in(row: Mapping, ranking: Mapping) -> float:
    """What is to be small: the first metric, turned round where high is good."""
    value = row["metrics"][ranking["metric"]]
    if value is None or not math.isfinite(value):
        return math.inf
    return -value if ranking["higher_is_better"] else value


def pareto(errors: Sequence[float], costs: Sequence[float]) -> list[int]:
    """The ones that nobody beats in one without being worse in the other; cheap first.

    Of equals the first one counts.
    """
    order = sorted(range(len(errors)), key=lambda i: (costs[i], errors[i], i))
    found, best = [], math.inf
    for i in order:
        if errors[i] < best:
            found.append(i)
            best = errors[i]
    return found


def pick(errors: Sequence[float], costs: Sequence[float], tolerance: float) -> int:
    """The cheapest within ``tolerance`` of the least error; of equals the better."""
    best = min(errors)
    near = [i for i, error in enumerate(errors) if error <= best + tolerance]
    return min(near or range(len(errors)), key=lambda i: (costs[i], errors[i], i))


def chosen(ranking: dict, cost: str, tolerance: float | None) -> dict:
    """Adds to a ranking, best first: ``best``, ``pick``, ``pareto``, ``tolerance``.

    Of equally good ones the cheapest is first.

    Args:
      ranking: with ``rows``.
      cost: of the Pareto front and the pick, one of `COSTS`.
      tolerance: in the units of the metric; None: one standard error of the best.
    """
    rows = sorted(ranking["rows"], key=lambda row: (error_in(row, ranking), row[cost]))
    errors = [error_in(row, ranking) for row in rows]
    costs = [row[cost] for row in rows]
    if tolerance is None:
        tolerance = rows[0]["errors"][ranking["metric"]] or 0.0
        tolerance = tolerance if math.isfinite(tolerance) else 0.0
    return ranking | {
        "cost": cost,
        "tolerance": tolerance,
        "best": rows[0]["strategy"],
        "pick": rows[pick(errors, costs, tolerance)]["strategy"],
        "pareto": [rows[i]["strategy"] for i in pareto(errors, costs)],
        "rows": rows,
    }


def markdown(ranking: Mapping, most: int = 25) -> str:
    """A ranking as a page: what was measured and how, and the first rows.

    Args:
      ranking: of `chosen`.
      most: rows from the top; named ones, the pick and the Pareto front come anyway.
    """
    rows, names = ranking["rows"], list(ranking["rows"][0]["metrics"])
    marked = {ranking["best"], ranking["pick"], *ranking["pareto"]}
    shown = [
        (place, row)
        for place, row in enumerate(rows, 1)
        if place <= most or row["strategy"] in marked or "sample" not in row["from"][0]
    ]
    unit, scale = ("GMAC", 1e9) if rows[0]["macs"] >= 1e8 else ("MMAC", 1e6)
    head = ["", "strategy", *names, "params", unit, "log p", "from", ""]
    lines = [
        f"# Ranking of {len(rows)} strategies",
        "",
        f"Model {ranking['model']}, space {ranking['space']} of"
        f" {ranking['size']:.6g} strategies; template {ranking['template']}, step"
        f" {ranking['step']}. Split {ranking['split']}, {ranking['clips']} clips"
        f" ({ranking['views']}). Weights are inherited from the template; batch"
        f" statistics: {ranking['bn']}. Values ± standard error by clips; the best of"
        " many is a lucky one, too: report it on clips that chose nothing.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
    ]
    for place, row in shown:
        lines.append(
            "| " + " | ".join(_cells(place, row, ranking, names, scale)) + " |"
        )
    if len(shown) < len(rows):
        lines.append(f"\n{len(rows) - len(shown)} more in ranking.json.")
    told = ", ".join(f"{letter} {unit}" for unit, letter in ranking["letters"].items())
    lines += [
        "",
        f"Letters: {told}. Pick: the cheapest ({ranking['cost']}) within"
        f" {ranking['tolerance']:.4g} of the best {ranking['metric']}.",
    ]
    return "\n".join(lines) + "\n"


def _cells(place: int, row, ranking, names: list[str], scale: float) -> list[str]:
    notes = [
        *(["best"] if row["strategy"] == ranking["best"] else []),
        *(["pick"] if row["strategy"] == ranking["pick"] else []),
        *(["Pareto"] if row["strategy"] in ranking["pareto"] else []),
    ]
    return [
        str(place),
        f"`{row['strategy']}`",
        *(_value(row["metrics"][name], row["errors"][name]) for name in names),
        f"{row['params']:,}",
        f"{row['macs'] / scale:.4g}",
        "" if row["log_prob"] is None else f"{row['log_prob']:.2f}",
        ", ".join(row["from"]),
        ", ".join(notes),
    ]


def _value(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    if error is None or not np.isfinite(error):
        return f"{value:.4g}"
    return f"{value:.4g} ± {error:.2g}"
