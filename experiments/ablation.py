"""What the ablations of recognition share: rows that are trained and their table."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from etils import epath

import stjax
from stjax.data.motion_clips import CLASSES, FACTORS, factor_accuracy
from stjax.data.motion_files import write_motion_clips
from stjax.errors import unknown
from stjax.macs import count_macs
from stjax.training.workdir import load_run


class Row(NamedTuple):
    """A row of a published table.

    Attributes:
      model: fields of the model that differ from the base config's.
      top1: published, percent.
      top5: likewise; None where none is printed.
      note: what else there is to say.
    """

    model: dict
    top1: float
    top5: float | None = None
    note: str = ""


def pick(rows: dict[str, Row], names: list[str]) -> dict[str, Row]:
    """The rows of these names, or of ["all"].

    Raises:
      UserError: an unknown name.
    """
    names = list(rows) if names == ["all"] else names
    for name in names:
        if name not in rows:
            raise unknown("row", name, rows)
    return {name: rows[name] for name in names}


def motion_clips(folder: epath.Path) -> str:
    """Where the motion clips are: a folder, which is written if it is not there."""
    clips, part = Path(folder, "clips"), Path(folder, "clips.part")
    if not clips.exists():
        shutil.rmtree(part, ignore_errors=True)
        write_motion_clips(part).rename(clips)
    return str(clips)


def run_row(config, workdir: epath.Path) -> dict:
    """Trains and evaluates one row, unless that has been done.

    Returns:
      What row.json holds: the results of `stjax.train`, ``macs`` (of one view) and
      ``trained`` (clips).
    """
    file = workdir / "row.json"
    if file.exists():
        return json.loads(file.read_text())
    results = stjax.train(config, workdir)
    if not results:
        raise SystemExit("the machine is taken away; start again to go on")
    run = load_run(workdir)
    x = jax.ShapeDtypeStruct((1, *run.spec.input_shape), jnp.float32)
    macs = count_macs(lambda v, x: run.model.apply(v, x), run.variables, x)
    row = results | {"macs": macs, "trained": results["steps"] * config.data.batch}
    file.write_text(json.dumps(row, indent=2))
    return row


def table(results: dict[str, dict], rows: dict[str, Row]) -> str:
    """Ours beside the published numbers, in the published order, as Markdown."""
    names = [name for name in rows if name in results]
    metrics = list(results[names[0]]["metrics"])
    factors = FACTORS if set(results[names[0]]["classes"]) == set(CLASSES) else ()
    head = ["row", "params", "GMAC", "minutes", *metrics, *factors]
    head += ["published: top1", "top5", ""]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name in names:
        ours, paper = results[name], rows[name]
        cells = [
            name,
            f"{ours['params']:,}",
            f"{ours['macs'] / 1e9:.3g}",
            f"{ours['seconds'] / 60:.0f}",
            *(f"{100 * ours['metrics'][m]:.1f}" for m in metrics),
        ]
        if factors:
            right = factor_accuracy(ours["confusion"], tuple(ours["classes"]))
            cells += [f"{100 * right[f]:.1f}" for f in factors]
        top5 = "" if paper.top5 is None else f"{paper.top5:g}"
        cells += [f"{paper.top1:g}", top5, paper.note]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def caption(results: dict[str, dict], base: str, published: str) -> str:
    """What the table shows, and what it does not."""
    first = next(iter(results.values()))
    trained = sorted({r["trained"] for r in results.values()})
    return (
        f"Base {base}: {', '.join(f'{n:,}' for n in trained)} training clips a row,"
        f" {first['clips']:,} test clips, {first['devices']}, one seed"
        f" ({first['seed']}), {first['protocol']}. Percent; GMAC are multiply-adds of a"
        f" view. Published: {published}; unless data and schedule are the paper's, the"
        " numbers of the two cannot be compared."
    )


def write_table(
    folder: epath.Path, rows: dict[str, Row], base: str, published: str
) -> str:
    """Writes table.md and table.json from all finished rows of a folder."""
    files = {name: folder / name / "row.json" for name in rows}
    results = {n: json.loads(f.read_text()) for n, f in files.items() if f.exists()}
    text = f"{caption(results, base, published)}\n\n{table(results, rows)}"
    (folder / "table.md").write_text(text)
    values = {
        n: {"ours": r, "published": {"top1": rows[n].top1, "top5": rows[n].top5}}
        for n, r in results.items()
    }
    (folder / "table.json").write_text(json.dumps(values, indent=2))
    return text


def run(
    configs: dict[str, object],
    rows: dict[str, Row],
    folder: epath.Path,
    *,
    base: str,
    published: str,
) -> str:
    """Runs the rows that are missing and returns the table.

    Args:
      configs: of the rows to be run, by name.
      rows: all rows that the table may have.
      folder: each row has a workdir there.
      base: name of the base config.
      published: where the published numbers come from.
    """
    text = ""
    for name, config in configs.items():
        print(f"== {name}", flush=True)
        run_row(config, folder / name)
        text = write_table(folder, rows, base, published)
    return text
