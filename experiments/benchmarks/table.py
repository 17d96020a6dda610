"""The README's table of results, from the records: numbers are never typed.

    python experiments/benchmarks/table.py          # prints it
    python experiments/benchmarks/table.py --write  # puts it into the README

Reads what `cpu.py`, `input.py`, `loop_overhead.py` and `tpu_estimates.py` wrote beside
this file; a record that is not there has no rows.
"""

import argparse
import json
import re
import statistics
from pathlib import Path

from cpu_figures import FIGURES
from cpu_tables import GIB, KINDS, TORCH, best, ratios, timed

FOLDER = Path(__file__).parent
README = FOLDER.parents[1] / "README.md"
BEGIN, END = "<!-- performance -->", "<!-- /performance -->"
HEAD = (
    "| figure | stjax | best PyTorch | ratio | goal |\n| --- | --- | --- | --- | --- |"
)
NAMES = {"eager": "eager", "channels_last": "channels-last", "onnx": "ONNX Runtime"}
GOALS = {"forward": "≤ 1.0", "train": "≤ 1.0", "memory": "≤ 1.2"}


def record(name: str) -> dict:
    """What a benchmark wrote; nothing where it was not run."""
    file = FOLDER / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def rows() -> list[str]:
    """Lines of the table, in Markdown."""
    cpu = record("cpu")
    lines = [
        line
        for name in FIGURES
        for kind in KINDS
        if kind in cpu.get(name, {})
        for line in cpu_rows(name, kind, cpu[name][kind])
    ]
    lines += input_rows(record("input")) + loop_rows(record("loop_overhead"))
    return lines + tpu_rows(record("tpu_estimates"))


def cpu_rows(name: str, kind: str, found: dict) -> list[str]:
    """Time, and of training memory and the first call; for each version of jax."""
    title, lines, other = FIGURES[name].title.partition(" (")[0], [], best(found, TORCH)
    title = title.partition(", 8 frames")[0]
    sides = timed(found)
    for side in fastest_by_jax(sides):
        row, version = sides[side], sides[side]["versions"]["jax"]
        middle = statistics.median(row["seconds"])
        loop = ", blocks in a loop" if side.startswith("stjax_scan") else ""
        cells = [
            f"{title}: {KINDS[kind]}",
            f"{middle:.3f} s a clip (jax {version}{loop})",
        ]
        if other:
            against = statistics.median(sides[other]["seconds"])
            ratio = statistics.median(ratios(found, side, other))
            cells += [f"{against:.3f} ({NAMES[other]})", f"**{ratio:.2f}**"]
        else:
            cells += ["", ""]
        lines.append(_line(*cells, GOALS[kind]))
        if kind == "train":
            lines += _memory(title, row, sides.get(other))
            lines += _first(title, sides, version)
    return lines


def fastest_by_jax(sides: dict[str, dict]) -> list[str]:
    """stjax's sides, for each version of jax the faster of the two."""
    found = {}
    for name, row in sides.items():
        if name.startswith("stjax"):
            found.setdefault(row["versions"]["jax"], []).append(name)
    return [
        min(names, key=lambda n: statistics.median(sides[n]["seconds"]))
        for names in found.values()
    ]


def _memory(title: str, row: dict, other: dict | None) -> list[str]:
    if not other or not row["peak_bytes"]:
        return []
    a, b = row["peak_bytes"] / GIB, other["peak_bytes"] / GIB
    what = f"{title}: peak memory of training"
    return [
        _line(what, f"{a:.2f} GiB", f"{b:.2f} GiB", f"**{a / b:.2f}**", GOALS["memory"])
    ]


def _first(title: str, sides: dict, version: str) -> list[str]:
    """How soon the first step is there, by the form that compiles sooner."""
    rows = [r for n, r in sides.items() if n.startswith("stjax")]
    rows = [r for r in rows if r["versions"]["jax"] == version and "cold" in r["first"]]
    if not rows:
        return []
    first = min((r["first"] for r in rows), key=lambda f: f["cold"]["total"])
    cold, warm = (first[k]["total"] for k in ("cold", "warm"))
    cells = f"{cold:.1f} s, from the cache {warm:.1f} s", "", "", "≤ 8 s, ≤ 2 s"
    return [_line(f"{title}: first training step (jax {version})", *cells)]


def input_rows(found: dict) -> list[str]:
    """Clips and frames a second."""
    if not found:
        return []
    lines = []
    for row in found["digits"]:
        if row["name"].startswith(("Grain", "`stjax")):
            speed = f"{statistics.median(row['cpu_second']):,.0f} clips/s of one core"
            goal = "≥ 2,000" if row["name"].startswith("Grain") else ""
            lines.append(_line(f"moving digits: {row['name']}", speed, "", "", goal))
    alone, *readers = found["videos"]
    for row in (r for r in readers if not r["name"].startswith("PyAV")):
        pairs = zip(row["second"], alone["second"], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        speeds = (f"{statistics.median(r['second']):,.0f}" for r in (row, alone))
        mine, theirs = speeds
        cells = f"{mine} frames/s", f"{theirs} (PyAV alone)", f"**{ratio:.2f}**", "1"
        lines.append(_line(f"video frames: {row['name']}", *cells))
    return lines


def loop_rows(found: dict) -> list[str]:
    """What the loop adds to a step."""
    if not found:
        return []
    step = f"training loop beside a step of {1000 * found['step_seconds']:.0f} ms"
    share = f"{100 * found['overhead']:.1f} % (CPU {100 * found['cpu_overhead']:.1f} %)"
    return [_line(step, share, "", "", "< 2 %")]


def tpu_rows(found: dict) -> list[str]:
    """What the TPU's compiler estimates; the goals are those of TAU."""
    lines = []
    for name, values in found.items():
        if not values.get("cycles"):
            continue
        clips = values["clips"] // values["devices"]
        what = f"estimate, one v5e, {values['config']}, {clips} clips, bfloat16"
        cells = (
            f"{values['cycles'] / 1e6:.1f} M cycles,"
            f" {values['accessed'] / 1e9:.1f} GB accessed,"
            f" {values['temporary'] / GIB:.2f} GiB temporary"
        )
        goal = "≤ 32 M, ≤ 18 GB, ≤ 1.5 GiB" if name == "tau" else ""
        lines.append(_line(what, cells, "", "", goal))
    return lines


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def machine_line() -> str:
    """Where the CPU's figures come from."""
    kinds = [k for figure in record("cpu").values() for k in figure.values()]
    machines = {(m["processor"], m["cpus"]) for m in (k["machine"] for k in kinds)}
    loads = [x for k in kinds for x in k["load"]]
    if not kinds:
        return "Nothing is recorded yet."
    names = "; ".join(f"{cpus} CPUs of {name}" for name, cpus in sorted(machines))
    return f"Measured on {names}; load average {min(loads):.1f} to {max(loads):.1f}."


def table() -> str:
    """All of it."""
    return "\n".join([machine_line(), "", HEAD, *rows()])


def written(text: str) -> str:
    """The README with the table of now between its marks."""
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    new = f"{BEGIN}\n{table()}\n{END}"
    return re.sub(pattern, lambda _: new, text, flags=re.S)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        README.write_text(written(README.read_text()))
    else:
        print(table())


if __name__ == "__main__":
    main()
