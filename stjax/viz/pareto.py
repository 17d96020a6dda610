"""What strategies are worth: against their cost, and against training each alone."""

from collections.abc import Mapping, Sequence

import numpy as np

from stjax.errors import UserError
from stjax.viz.plot import COLOURS, bare, figure, pixels

_UNITS = {"macs": ("GMAC of a clip", 1e9), "params": ("million parameters", 1e6)}
_KINDS = {"sampled": COLOURS[0], "uniform": COLOURS[7], "named": COLOURS[3]}
_SMALL = {"macs": ("MMAC of a clip", 1e6), "params": ("thousand parameters", 1e3)}


def pareto(ranking: Mapping) -> np.ndarray:
    """All strategies of a ranking against their cost, with the Pareto front.

    Args:
      ranking: of `stjax.search.rank`.

    Returns:
      uint8 [height, width, 3].

    Raises:
      UserError: no strategy has a value.
    """
    metric, cost = ranking["metric"], ranking["cost"]
    rows = [row for row in ranking["rows"] if row["metrics"][metric] is not None]
    if not rows:
        raise UserError(f"no strategy of the ranking has a {metric}; rank again")
    by_name = {row["strategy"]: row for row in rows}
    label, unit = _scale(cost, [row[cost] for row in rows])
    drawn = figure(6.4, 4.2)
    axes = drawn.add_subplot()
    for kind in sorted({_kind(row) for row in rows}):
        some = [row for row in rows if _kind(row) == kind]
        axes.plot(
            [row[cost] / unit for row in some],
            [row["metrics"][metric] for row in some],
            "o",
            color=_KINDS[kind],
            ms=4,
            alpha=0.65,
            mec="none",
            label=kind,
        )
    front = [by_name[name] for name in ranking["pareto"] if name in by_name]
    axes.errorbar(
        [row[cost] / unit for row in front],
        [row["metrics"][metric] for row in front],
        yerr=[row["errors"][metric] or 0 for row in front],
        color=COLOURS[4],
        lw=1,
        drawstyle="steps-post",
        capsize=2,
        label="Pareto front ± s.e.",
    )
    for name, mark in (("pick", "s"), ("best", "*")):
        row = by_name[ranking[name]]
        axes.plot(
            row[cost] / unit,
            row["metrics"][metric],
            mark,
            ms=12 if mark == "*" else 8,
            mfc="none" if mark == "s" else COLOURS[4],
            mec="black" if mark == "s" else COLOURS[4],
            label=name,
            zorder=5,
        )
    _named(axes, rows, cost, metric, unit)
    axes.set_xlabel(label, fontsize=9)
    _metric_axis(axes.set_ylabel, ranking)
    axes.grid(alpha=0.25)
    bare(axes)
    drawn.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return pixels(drawn)


def _scale(cost: str, values: Sequence[float]) -> tuple[str, float]:
    label, unit = _UNITS[cost]
    return _SMALL[cost] if max(values) < unit / 10 else (label, unit)


def _kind(row: Mapping) -> str:
    first = row["from"][0]
    return {"sample": "sampled", "uniform sample": "uniform"}.get(first, "named")


def _named(axes, rows, cost: str, metric: str, unit: float) -> None:
    """Names of the strategies that were asked for, beside their points."""
    low, high = (f(row[cost] for row in rows) / unit for f in (min, max))
    named = [row for row in rows if _kind(row) == "named"]
    for i, row in enumerate(sorted(named, key=lambda r: r[cost])[:12]):
        right = row[cost] / unit > low + 0.75 * (high - low)
        below = i % 2 == 0  # neighbours must not touch
        axes.annotate(
            "/".join(n for n in row["from"] if "sample" not in n),
            (row[cost] / unit, row["metrics"][metric]),
            textcoords="offset points",
            xytext=(-6 if right else 6, -11 if below else 6),
            ha="right" if right else "left",
            fontsize=8,
        )


def _metric_axis(setter, ranking: Mapping, how: str = "") -> None:
    way = "higher" if ranking["higher_is_better"] else "lower"
    text = f"{ranking['metric']}{how} ({way} is better)"
    setter(f"{text}\n{ranking['split']} split", fontsize=9)


def agreement(report: Mapping) -> np.ndarray:
    """Strategies trained alone against what their template said of them.

    Args:
      report: of `stjax.search.fidelity`.

    Returns:
      uint8 [height, width, 3].
    """
    rows = report["rows"]
    x = [row["template"] for row in rows]
    y = [row["alone"] for row in rows]
    groups = sorted({row["group"] for row in rows})
    drawn = figure(5.4, 4.6)
    axes = drawn.add_subplot()
    for i, group in enumerate(groups):
        mine = [k for k, row in enumerate(rows) if row["group"] == group]
        axes.errorbar(
            [x[k] for k in mine],
            [y[k] for k in mine],
            xerr=[rows[k]["template_error"] or 0 for k in mine],
            yerr=[rows[k]["alone_error"] or 0 for k in mine],
            fmt="o",
            ms=5,
            lw=0.7,
            color=COLOURS[i % len(COLOURS)],
            label=str(group),
        )
    low, high = min(x + y), max(x + y)
    axes.plot([low, high], [low, high], ":", color="#999999", lw=1)
    drawn.suptitle(_found(report), x=0.02, ha="left", fontsize=9)
    axes.grid(alpha=0.25)
    _metric_axis(axes.set_xlabel, report, " with the template's weights")
    _metric_axis(axes.set_ylabel, report, " trained alone")
    bare(axes)
    drawn.legend(
        loc="outside right center", title=report["groups"], frameon=False, fontsize=8
    )
    return pixels(drawn)


def _found(report: Mapping) -> str:
    parts = []
    for name, sign in (("spearman", "Spearman"), ("kendall", "Kendall tau-b")):
        found = report[name]
        if found["value"] is not None:
            low, high = found["interval"]
            around = "" if None in (low, high) else f" [{low:.2f}, {high:.2f}]"
            parts.append(f"{sign} {found['value']:.2f}{around}")
    return "\n".join([f"{len(report['rows'])} strategies", *parts])
