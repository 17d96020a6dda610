"""The page of `fusion_search`: criteria, and how true the ranking of a template is."""

from collections.abc import Mapping

import numpy as np
from fusion_criteria import layers_of, temporal, trained

from stjax.data.known_answers import ladder_accuracy
from stjax.search.agreement import interval, kendall, spearman, within


def trained_for(task: str) -> str:
    """The task whose strategies are trained alone on the data of a template."""
    task = task.removesuffix("_published")
    return {"uniform": "shape_and_drift"}.get(task, task)


def fidelity(rows: dict, task: str) -> list[dict]:
    """Template against alone, a row for each template."""
    separate = trained(rows["alone"].get(trained_for(task), []))
    names = list(separate)
    found = []
    for row in rows["search"].get(task, []) if len(names) > 3 else ():
        lists = [row["accuracy"][s] for s in names], list(separate.values())
        groups = [layers_of(s) for s in names]
        found.append(
            {
                "seed": row["seed"],
                "strategies": len(names),
                "spearman": (spearman(*lists), interval(spearman, *lists)),
                "kendall": (kendall(*lists), interval(kendall, *lists)),
                "within": (
                    within(*lists, groups),
                    interval(within, *lists, groups),
                ),
                "regret": max(lists[1]) - lists[1][int(np.argmax(lists[0]))],
            }
        )
    return found


def markdown(checks: list[dict], rows: dict) -> str:
    """Criteria, fidelity, strategies and gates, as Markdown."""
    lines = [
        "| | measured | limit | piloted | median | of each template | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for of in checks:
        values = of["values"]
        cells = [
            of["name"],
            of["what"],
            _limit(of),
            "" if of["piloted"] is None else f"{of['piloted']:.3g}",
            f"{np.median(values):.3g}" if values else "",
            ", ".join(f"{v:.3g}" for v in values),
            {True: "passed", False: "**missed**", None: "not run"}[of["passed"]],
        ]
        if of["least"] is None and of["most"] is None:
            cells[-1] = "reported"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_fidelity(rows), *_ladder(rows), *_gates(rows)])


def _limit(of: Mapping) -> str:
    least, most = of["least"], of["most"]
    if least is not None and most is not None:
        return f"{least:g} to {most:g}"
    found = f">= {least:g}" if least is not None else ""
    found += f"<= {most:.3g}" if most is not None else ""
    return found + (" in 4 of 5" if of["rule"] == "most" and found else "")


def _fidelity(rows: dict) -> list[str]:
    lines = [
        "Template against strategies trained alone; intervals: 95 %, bootstrap over"
        " strategies.",
        "",
        "| task | template | strategies | Spearman | Kendall tau-b | within groups of"
        " equally many temporal layers | regret |",
        "|" + " --- |" * 7,
    ]
    for task in rows["search"]:
        for of in fidelity(rows, task):
            told = [
                f"{value:.2f} [{low:.2f}, {high:.2f}]"
                for value, (low, high) in (
                    of[k] for k in ("spearman", "kendall", "within")
                )
            ]
            cells = [task, str(of["seed"]), str(of["strategies"]), *told]
            cells.append(f"{of['regret']:.3f}")
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _ladder(rows: dict) -> list[str]:
    """Accuracies by task and strategy: mean over templates, and alone."""
    lines = []
    for task, found in rows["search"].items():
        separate = trained(rows["alone"].get(trained_for(task), []))
        if not separate:
            continue
        lines += [
            f"{task}: accuracy of strategies, percent; template: mean and range of"
            f" {len(found)}.",
            "",
            "| strategy | temporal layers | most possible | template | alone |",
            "| --- | --- | --- | --- | --- |",
        ]
        for s in sorted(separate, key=lambda s: (layers_of(s), s)):
            values = [100 * row["accuracy"][s] for row in found]
            n = layers_of(s)
            bound = f"{100 * ladder_accuracy(n):.1f}" if task == "order_ladder" else ""
            shown = f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"
            alone_ = f"{100 * separate[s]:.1f}"
            lines.append(f"| `{s}` | {n} | {bound} | {shown} | {alone_} |")
        lines.append("")
    return lines


def _gates(rows: dict) -> list[str]:
    lines = [
        "Probability of the temporal path by layer, and the most probable units.",
        "",
        "| task | template | P(t on) | mode |",
        "| --- | --- | --- | --- |",
    ]
    for task, found in rows["search"].items():
        for row in found:
            p = " ".join(f"{v:.2f}" for v in temporal(row))
            mode = ", ".join(row["posterior"]["mode"])
            lines.append(f"| {task} | {row['seed']} | {p} | {mode} |")
    return [*lines, ""]
