"""Several runs side by side."""

from collections.abc import Sequence

from stjax.report import inline
from stjax.report.records import Record
from stjax.report.sections import results_table
from stjax.viz.curves import LOGARITHMIC, frame_panels, panels, training_panels


def labels(records: Sequence[Record]) -> list[str]:
    """A name for each run: of its config, else its workdir, else its path."""
    for choose in (
        lambda r: r.name,
        lambda r: r.workdir.name,
        lambda r: f"{r.workdir.parent.name}/{r.workdir.name}",
    ):
        found = [choose(record) for record in records]
        if len(set(found)) == len(found):
            return found
    return [str(record.workdir) for record in records]


def comparison(records: Sequence[Record]) -> dict:
    """The results of all runs, common curves, and the fields in which they differ."""
    names = labels(records)
    by_name = dict(zip(names, records, strict=True))
    metrics = {n: r.results.get("metrics", {}) for n, r in by_name.items()}
    return {
        "links": [{"name": n, "anchor": r.anchor} for n, r in by_name.items()],
        "table": results_table(_common(metrics)),
        "training": _training(by_name),
        "frames": _frames(by_name),
        "fields": _fields(by_name),
        "names": names,
    }


def _common(metrics: dict[str, dict]) -> dict[str, dict]:
    """The metrics that at least one run has, in the order of the first."""
    every = dict.fromkeys(name for values in metrics.values() for name in values)
    return {
        run: {name: values.get(name) for name in every}
        for run, values in metrics.items()
    }


def _training(records: dict[str, Record]) -> str:
    found = training_panels({name: r.scalars for name, r in records.items()})
    if not found:
        return ""
    return inline.svg(panels(found, x_label="step", log=LOGARITHMIC))


def _frames(records: dict[str, Record]) -> str:
    found = {}
    for name, record in records.items():
        for metric, lines in frame_panels(record.results, name).items():
            found.setdefault(metric, {})[name] = lines[name]
    return inline.svg(panels(found, x_label="predicted frame")) if found else ""


def _fields(records: dict[str, Record]) -> list[dict]:
    """Config fields in which the runs differ."""
    configs = [record.config for record in records.values()]
    keys = sorted(set().union(*configs))
    rows = [(key, [config.get(key) for config in configs]) for key in keys]
    return [
        {"name": key, "values": ["" if v is None else str(v) for v in values]}
        for key, values in rows
        if any(value != values[0] for value in values)
    ]
