"""Is the ranking true? Strategies trained alone, against what the template said."""

import json
from collections.abc import Mapping, Sequence

import jax
from etils import epath

from stjax.errors import UserError
from stjax.search import agreement
from stjax.search.exporting import find_strategy, retrain
from stjax.search.ranking import read_ranking, search_folder, search_run
from stjax.search.scoring import measured
from stjax.search.space import Space, create_space
from stjax.search.strategy import short
from stjax.training.checkpoint import Step
from stjax.training.workdir import load_run
from stjax.training.writer import say, to_json, write_whole

_SPLITS = ("validation", "test")


def fidelity(
    workdir: str | epath.Path,
    *,
    count: int = 12,
    strategies: Sequence[str | Sequence[str]] = (),
    init: str = "scratch",
    changes: Mapping[str, object] | None = None,
    split: str = "validation",
    step: Step = "last",
    output: str | epath.Path | None = None,
) -> dict:
    """Trains strategies of a ranking separately, and compares the two orders.

    Strategies are taken evenly from the ranking, the best and the worst among them.
    Each is trained in a workdir of its own, ``OUTPUT/LETTERS``, which goes on where it
    was interrupted; a call with a larger ``count`` adds to what is there.

    Args:
      workdir: of a search that has been ranked.
      count: strategies to train.
      strategies: instead of them, those in the ranking that are named here.
      init: "scratch", or "inherit" to begin with the template's weights.
      changes: of the config of each training, such as ``{"train.steps": 500}``.
      split: on which the trained strategies are measured.
      step: of the template's checkpoint.
      output: folder; None: ``search/fidelity`` in the workdir.

    Returns:
      What fidelity.json holds: ``rows``; ``spearman`` and ``kendall`` (tau-b) between
      both orders, and ``within`` groups of strategies with as many paths, each with a
      bootstrap ``interval`` over strategies; ``regret``: how much worse than the best
      of those trained the template's first choice is, ``regret_pick``: the same for
      its pick.

    Raises:
      UserError: no ranking there, less than 3 strategies, or one that has no score.
    """
    if split not in _SPLITS:
        raise UserError(f"--split={split}: expected one of {', '.join(_SPLITS)}")
    run = search_run(workdir, step)
    space = create_space(run.config, run.spec)
    ranking = read_ranking(search_folder(workdir) / "ranking.json", space)
    chosen = _chosen(run, space, ranking, count, strategies)
    folder = epath.Path(output or search_folder(workdir) / "fidelity")
    rows = []
    for number, row in enumerate(chosen, 1):
        place = folder / row["strategy"]
        say(f"{number}/{len(chosen)}  {row['strategy']}")
        if not retrain(
            workdir, row["units"], place, init=init, step=step, changes=changes
        ):
            return {}
        rows.append(_compared(row, place, space, ranking, split))
    report = json.loads(to_json(report_of(rows, ranking, init, split)))  # NaN is None
    if jax.process_index() == 0:
        write_whole(folder / "fidelity.json", to_json(report, indent=1))
        write_whole(folder / "fidelity.md", markdown(report))
    return report


def _chosen(run, space: Space, ranking: dict, count: int, strategies) -> list[dict]:
    rows = ranking["rows"]
    by_name = {row["strategy"]: row for row in rows}
    if strategies:
        names = [short(space, find_strategy(run, space, s)) for s in strategies]
        for name in names:
            if name not in by_name:
                raise UserError(
                    f"strategy {name} is not in the ranking; rank it first, with"
                    " --include"
                )
        rows = [by_name[name] for name in dict.fromkeys(names)]
        count = len(rows)
    if min(count, len(rows)) < 3:
        raise UserError(
            f"{min(count, len(rows))} strategies have no order to compare; take 3 or"
            " more (12 or more tell something)"
        )
    last = len(rows) - 1
    places = {round(i * last / (count - 1)) for i in range(count)}
    return [rows[i] for i in sorted(places)]


def _compared(row: dict, place: epath.Path, space: Space, ranking, split: str) -> dict:
    """What the template said of a strategy, and what came of it; kept in a file."""
    file = place / f"alone_{split}.json"
    if file.exists():
        alone = json.loads(file.read_text())
    else:
        run = load_run(place)
        score = measured(run, split)
        alone = {"metrics": score.metrics, "errors": score.errors, "step": run.step}
        alone = json.loads(to_json(alone))
        if jax.process_index() == 0:
            write_whole(file, to_json(alone))
    name = ranking["metric"]
    paths = sum(
        len(slot.kept(unit))
        for slot, unit in zip(space.slots, row["units"], strict=True)
    )
    return {
        "strategy": row["strategy"],
        "units": row["units"],
        "params": row["params"],
        "macs": row["macs"],
        "group": paths,
        "template": row["metrics"][name],
        "template_error": row["errors"][name],
        "alone": alone["metrics"][name],
        "alone_error": alone["errors"][name],
    }


def report_of(rows: list[dict], ranking: Mapping, init: str, split: str) -> dict:
    """What `fidelity` returns.

    Args:
      rows: of strategies, with their value in the ``template`` and trained ``alone``.
      ranking: that they come from.
      init: how they were trained.
      split: on which they were measured.
    """
    metric, up = ranking["metric"], ranking["higher_is_better"]
    rows = [r for r in rows if None not in (r["template"], r["alone"])]
    x, y = ([row[key] for row in rows] for key in ("template", "alone"))
    groups = [row["group"] for row in rows]
    found = {
        name: {
            "value": statistic(*lists),
            "interval": agreement.interval(statistic, *lists),
        }
        for name, statistic, lists in (
            ("spearman", agreement.spearman, (x, y)),
            ("kendall", agreement.kendall, (x, y)),
            ("within", agreement.within, (x, y, groups)),
        )
    }
    sign = -1 if up else 1
    best = min(sign * value for value in y)
    by_name = {row["strategy"]: row for row in rows}
    first = min(rows, key=lambda row: sign * row["template"])
    pick = by_name.get(ranking["pick"])
    return {
        "model": ranking["model"],
        "space": ranking["space"],
        "metric": metric,
        "higher_is_better": up,
        "split": split,
        "template_split": ranking["split"],
        "template": ranking["template"],
        "bn": ranking["bn"],
        "init": init,
        "groups": "paths",
        **found,
        "regret": sign * first["alone"] - best,
        "regret_pick": None if pick is None else sign * pick["alone"] - best,
        "rows": sorted(rows, key=lambda row: sign * row["alone"]),
    }


def markdown(report: Mapping) -> str:
    """A report as a page."""

    def told(name: str) -> str:
        value, (low, high) = report[name]["value"], report[name]["interval"]
        if value is None:
            return "not defined"
        if None in (low, high):
            return f"{value:.2f}"
        return f"{value:.2f} [{low:.2f}, {high:.2f}]"

    metric, rows = report["metric"], report["rows"]
    pick = report["regret_pick"]
    lines = [
        f"# {len(rows)} strategies trained separately ({report['init']})",
        "",
        f"Template {report['template']}, {report['template_split']} split, batch"
        f" statistics: {report['bn']}. Trained alone: {report['split']} split,"
        f" {metric} ({'higher' if report['higher_is_better'] else 'lower'} is better)."
        " Intervals: 95 %, bootstrap over strategies.",
        "",
        f"- Spearman {told('spearman')}",
        f"- Kendall tau-b {told('kendall')}",
        f"- rank correlation among strategies with as many paths: {told('within')}",
        f"- regret of the template's first of these: {report['regret']:.4g}"
        + ("" if pick is None else f", of its pick: {pick:.4g}"),
        "",
        f"| strategy | {metric} alone | {metric} in the template | params | MMAC |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{row['strategy']}` | {_value(row, 'alone')} | {_value(row, 'template')} |"
        f" {row['params']:,} | {row['macs'] / 1e6:.4g} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _value(row: Mapping, key: str) -> str:
    error = row[f"{key}_error"]
    return f"{row[key]:.4g}" + ("" if error is None else f" ± {error:.2g}")
