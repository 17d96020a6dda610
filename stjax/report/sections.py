"""The facts of one run, as the template shows them."""

from collections.abc import Sequence

from etils import epath

from stjax import viz
from stjax.report import inline
from stjax.report.examples import examples
from stjax.report.records import Record, best, higher_is_better
from stjax.viz.curves import LOGARITHMIC, frame_panels, panels, training_panels

_PHASES = ("step", "data", "init", "evaluation", "checkpoint", "other")
_FURTHER = 12  # pictures of the workdir
_LARGEST = 4_000_000  # bytes of one


def section(record: Record, clips: int, step: int | str | None) -> dict:
    """Everything that the page tells about a run."""
    results = record.results
    return {
        "name": record.name,
        "anchor": record.anchor,
        "workdir": str(record.workdir),
        "task": "frame prediction" if record.seeks_frames else "recognition",
        "finished": bool(results),
        "protocol": results.get("protocol", ""),
        "tiles": tiles(record),
        "table": table(record),
        "training": _training(record),
        "frames": _frames(record),
        "confusion": _confusion(record),
        "goodput": _goodput(results),
        "further": _further(record.workdir),
        "config": _config(record),
        "versions": results.get("versions") or record.versions,
        **examples(record, clips, step),
    }


def number(value: object) -> str:
    """Four digits, and no more than that."""
    if value is None:
        return "-"
    if isinstance(value, float):
        plain = 1e-3 <= abs(value) < 1e5 or value == 0
        return f"{value:.4g}" if plain else f"{value:.3e}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def tiles(record: Record) -> list[dict]:
    """The few numbers to read first: label, value, note."""
    results, found = record.results, []
    metrics = results.get("metrics", {})
    if metrics:
        name, value = next(iter(metrics.items()))
        found.append({"label": f"test {name}", "value": number(value)})
        found[0]["note"] = _beside(name, value, results.get("baselines", {}))
    elif record.scalars:
        last = record.scalars[-1]["step"]
        found.append({"label": "not finished", "value": f"step {last:,}", "note": ""})
    if "params" in results:
        count = results["params"]
        value = f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"
        found.append({"label": "parameters", "value": value, "note": ""})
    if "steps" in results:
        note = f"best at {results['best_step']:,}"
        found.append({"label": "steps", "value": f"{results['steps']:,}", "note": note})
    if results.get("seconds"):
        speed = results.get("clips_per_second")
        note = f"{speed:.3g} clips/s" if speed else ""
        value = _time(results["seconds"])
        found.append({"label": "training time", "value": value, "note": note})
    if "devices" in results:
        note = f"seed {results.get('seed')}"
        found.append({"label": "devices", "value": results["devices"], "note": note})
    return found


def _beside(name: str, value: float | None, baselines: dict) -> str:
    """How a metric compares with the best trivial answer."""
    others = {row: values.get(name) for row, values in baselines.items()}
    row = best(others, name)
    if row is None or value is None:
        return ""
    return f"{row.replace('_', ' ')}: {number(others[row])}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def table(record: Record) -> dict:
    """Metrics of the model and, below, of trivial answers; the best is marked."""
    results = record.results
    rows = {"model": results.get("metrics", {})}
    for row, values in results.get("baselines", {}).items():
        rows[row.replace("_", " ")] = values
    return results_table(rows) | {
        "clips": results.get("clips"),
        "skipped": results.get("skipped"),
    }


def results_table(rows: dict[str, dict]) -> dict:
    """For the template: ``heads`` and ``rows``, whose cells know if they are best."""
    names = list(next(iter(rows.values()), {}))
    winners = {n: best({r: v.get(n) for r, v in rows.items()}, n) for n in names}
    arrow = {True: "↑", False: "↓", None: ""}
    return {
        "heads": [{"name": n, "arrow": arrow[higher_is_better(n)]} for n in names],
        "rows": [
            {
                "name": row,
                "cells": [
                    {"text": number(values.get(n)), "best": winners[n] == row}
                    for n in names
                ],
            }
            for row, values in rows.items()
            if names
        ],
    }


def _training(record: Record) -> str:
    found = training_panels({"run": record.scalars})
    if not found:
        return ""
    return inline.svg(panels(found, x_label="step", log=LOGARITHMIC))


def _frames(record: Record) -> str:
    found = frame_panels(record.results)
    return inline.svg(panels(found, x_label="predicted frame")) if found else ""


def _confusion(record: Record) -> str:
    results = record.results
    if "confusion" not in results:
        return ""
    return inline.png(viz.confusion(results["confusion"], results["classes"]))


def _goodput(results: dict) -> list[dict]:
    """Phases of the run's time with their shares, training first."""
    report = results.get("goodput")
    if not report:
        return []
    seconds = report["seconds"]
    return [
        {"name": name, "share": report["shares"][name], "time": _time(seconds[name])}
        for name in _PHASES
        if name in report["shares"]
    ]


def _further(workdir: epath.Path) -> list[dict]:
    """Other pictures that the run left, such as those of a search."""
    folder, found = workdir / "pictures", []
    if not folder.exists():
        return found
    for path in sorted(folder.iterdir()):
        kind = path.suffix.lower().lstrip(".")
        if kind in ("png", "gif") and path.name != "test.png" and len(found) < _FURTHER:
            data = path.read_bytes()
            if len(data) <= _LARGEST:
                found.append({"name": path.stem, "picture": inline.uri(data, kind)})
    return found


def _config(record: Record) -> dict:
    changed = record.changed
    rows: Sequence[dict] = [
        {"name": key, "value": str(value), "changed": key in changed}
        for key, value in sorted(record.config.items())
        if value is not None
    ]
    return {"rows": rows, "changed": sorted(changed), "known": bool(record.base)}
