"""The records of `cpu.py` as Markdown."""

import statistics

from cpu_figures import FIGURES

GIB = 2**30
TORCH = ("eager", "channels_last", "onnx")
_ABOUT = (
    "Seconds a clip, float32: the median over rounds and, in brackets, the smallest and"
    " the largest. Sides take turns, forwards and backwards; the ratio is to the"
    " fastest of PyTorch and ONNX Runtime, within each round. CPU: seconds of all"
    " threads together. Peak: of the process, once it is compiled. First: seconds from"
    " the first call to its result, compiling and from the persistent cache, in fresh"
    " processes."
)
KINDS = {"forward": "forward pass", "train": "training step"}


def timed(record: dict) -> dict[str, dict]:
    """The sides that were timed, by name."""
    return {row["side"]: row for row in record["rows"] if "seconds" in row}


def best(record: dict, names: tuple[str, ...]) -> str | None:
    """The fastest of the sides whose names begin so, by the median; None without."""
    rows = timed(record)
    there = [n for n in rows if n.startswith(names)]
    return min(there, key=lambda n: statistics.median(rows[n]["seconds"]), default=None)


def ratios(record: dict, side: str, other: str, key: str = "seconds") -> list[float]:
    """Of two sides, round by round, in order of size."""
    rows = timed(record)
    pairs = zip(rows[side][key], rows[other][key], strict=True)
    return sorted(a / b for a, b in pairs)


def spread(values: list[float], form: str = ".3f") -> str:
    """The median, and the smallest and largest value."""
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}}–{max(values):{form}})"


def label(row: dict) -> str:
    """The side, and what computed."""
    kinds = {
        "stjax_scan": "stjax, blocks in a loop",
        "stjax": "stjax",
        "eager": "PyTorch eager",
        "channels_last": "PyTorch channels-last",
        "onnx": "ONNX Runtime",
    }
    name = next(text for side, text in kinds.items() if row["side"].startswith(side))
    versions = row.get("versions", {})
    keys = ("jax",) if "jax" in versions else ("torch", "onnxruntime")
    found = " ".join(f"{k} {versions[k]}" for k in keys if k in versions)
    return f"{name} ({found}, Python {versions['python']})" if found else name


def markdown(records: dict) -> str:
    """All records: a table for each figure and kind, and where it comes from."""
    parts = [_ABOUT]
    for name, kinds in records.items():
        for kind in KINDS:
            if kind in kinds:
                parts += [f"## {FIGURES[name].title}: {KINDS[kind]}"]
                parts += [where(kinds[kind]), table(kinds[kind])]
    return "\n\n".join(parts) + "\n"


def where(record: dict) -> str:
    """The machine, in a sentence."""
    m, load = record["machine"], record["load"]
    other = "written for the benchmark" if record["peer"] == "peers" else record["peer"]
    return (
        f"Batches of {record['clips']}; {m['cpus']} CPUs ({m['processor']}),"
        f" {m['system']}, {m['date']}, load average {load[0]:.1f} at the start,"
        f" {load[1]:.1f} at the end. PyTorch's network: {other}."
    )


def table(record: dict) -> str:
    """One row a side."""
    base = best(record, TORCH)
    lines = [
        "| | s a clip | ratio | CPU s | peak GiB | first: compiled | from cache |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        if "skipped" in row:
            lines.append(f"| {label(row)} | skipped: {row['skipped']} | | | | | |")
            continue
        ratio = spread(ratios(record, row["side"], base), ".2f") if base else ""
        first = row["first"]
        ready = [
            f"{first[k]['total']:.1f}" if k in first else "" for k in ("cold", "warm")
        ]
        cells = [
            label(row),
            spread(row["seconds"]),
            ratio,
            f"{statistics.median(row['cpu_seconds']):.3f}",
            f"{row['peak_bytes'] / GIB:.2f}" if row["peak_bytes"] else "",
            *ready,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
