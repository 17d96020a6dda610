"""Whether a device's work stays the same, however many there are (weak scaling)."""

from collections.abc import Iterable

from stjax import aot

MARGIN = 0.05
"""Of bytes moved, memory and cycles: the compiler lays out and fuses in another way."""

_TEXT = """\
## Weak scaling

The same batch a device on more devices: of each device, from the first number of them
to the last. *Constant* is that the arithmetic is the same, that bytes moved, cycles and
temporary memory grow by at most {margin:.0%} (the memory also by one float32 copy of
the gradients, which wait for their sum), and that the only collective is the
all-reduce, of the same bytes on any number of devices. What TAU sends is, to the byte,
its gradients, four float32 sums a channel of each batch norm, and the loss
(`tests/aot/test_weak_scaling.py`).
"""
_COLUMNS = (
    "config | chip | devices | GFLOP | moved GB | temporary GiB | 10^6 cycles"
    " | all-reduce MB | constant"
)


def departures(reports: list[aot.Report]) -> list[str]:
    """What of a device grows with their number; nothing, if all is well.

    Args:
      reports: of one program, with the same batch a device, by number of devices.
    """
    first, found = reports[0], []
    sent = {r.devices: r.collectives for r in reports if r.devices > 1}
    for r in reports[1:]:
        name = f"on {r.devices} devices"
        if abs(r.flops / first.flops - 1) > 1e-3:
            found.append(f"{r.flops / first.flops:.3f} times the arithmetic {name}")
        for what, got, had, more in (
            ("bytes moved", r.moved, first.moved, 0),
            ("memory", r.temporary, first.temporary, 4 * first.parameters),
            ("cycles", r.cycles or 0, first.cycles or 0, 0),
        ):
            if got > (1 + MARGIN) * had + more:
                found.append(f"{got / had:.2f} times the {what} {name}")
    bytes_of = {n: c.get("all-reduce", (0, 0))[1] for n, c in sent.items()}
    if len(set(bytes_of.values())) > 1:
        found.append(f"all-reduces of {bytes_of} bytes")
    for devices, kinds in sent.items():
        if others := kinds.keys() - {"all-reduce"}:
            found.append(f"{', '.join(sorted(others))} on {devices} devices")
    return found


def groups(reports: Iterable[aot.Report]) -> dict[tuple[str, str], list[aot.Report]]:
    """(config, chip) -> programs that fit on several numbers of devices, ascending."""
    found: dict[tuple[str, str], list[aot.Report]] = {}
    for report in sorted(reports, key=lambda r: r.devices):
        if report.temporary is not None:
            chip = report.topology.partition(":")[0]
            found.setdefault((report.config, chip), []).append(report)
    return {key: rows for key, rows in found.items() if len(rows) > 1}


def section(reports: Iterable[aot.Report]) -> str:
    """Of the page, in Markdown."""
    lines = [_TEXT.format(margin=MARGIN), f"| {_COLUMNS} |"]
    lines.append("|" + " --- |" * (_COLUMNS.count("|") + 1))
    for (name, chip), rows in groups(reports).items():
        cells = [
            f"`{name}`",
            chip,
            _row(r.devices for r in rows),
            _row(f"{r.flops / 1e9:,.1f}" for r in rows),
            _row(f"{r.moved / 1e9:.4g}" for r in rows),
            _row(f"{r.temporary / 2**30:.2f}" for r in rows),
            _row(f"{r.cycles / 1e6:.4g}" if r.cycles else "" for r in rows),
            _row(
                f"{r.collectives.get('all-reduce', (0, 0))[1] / 1e6:.5g}" for r in rows
            ),
            "; ".join(departures(rows)) or "yes",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _row(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)
