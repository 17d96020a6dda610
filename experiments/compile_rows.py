"""The table of compiled programs as Markdown; see compile_table.py."""

import dataclasses

import compile_scaling
from etils import epath

from stjax import aot

_HEAD = """\
# Does it fit, and on what

What the compilers of TPUs and GPUs make of the training steps, on a machine that has
neither: written by `python experiments/compile_table.py`, one JSON a row in
`experiments/compile_rows/`. **Nothing here was measured on a device.** bfloat16
compute, float32 parameters, and the same batch a device on every topology. `stjax
compile` says the same, and more, of any config. A row is of the code when it was
compiled; later code may do better (`experiments/benchmarks/tpu_estimates.md` has TAU's
step on one v5e anew).

- *memory*: what the program needs of a device (parameters, optimizer state, batch,
  activations), and its share of what there is;
- *GFLOP*: of a device and step, two for every multiply-add, counted in the program as
  written, loops in full;
- *moved*: to and from the main memory: operands and results of all kernels;
- *all-reduce*: bytes of a step, and *gradients*: two for each parameter, the least that
  data parallelism has to add up (gradients of kernels are bfloat16 as the computation
  is, those of norms float32, and statistics of batch norms come on top);
- *roofline*: the largest of arithmetic / peak, moved / bandwidth, and collectives in a
  ring / links, of that device;
- *estimate*: the TPU compiler's cycles at the clock of the chip, then the collectives,
  not overlapped; for a GPU there is none;
- *clips/s*: of a device, from the estimate, or at best where there is none.
"""
_COLUMNS = (
    "config | topology | clips a device | parameters | memory | GFLOP | moved GB"
    " | all-reduce MB (gradients) | others MB | roofline ms (bound) | estimate ms"
    " | share of peak | clips/s | epoch s"
)


@dataclasses.dataclass
class Row:
    """A program on a topology.

    Attributes:
      configs: that it is of.
      topology: it is compiled for.
      file: of its figures.
      known: what is in there: fields of `stjax.aot.Report` or an ``error``, and the
        ``versions`` of what compiled it; empty if it is not compiled yet.
    """

    configs: list[str]
    topology: aot.Topology
    file: epath.Path
    known: dict

    @property
    def report(self) -> aot.Report | None:
        """Where there is one."""
        return aot.Report.from_dict(self.known) if "parameters" in self.known else None


def table(rows: list[Row], first: tuple[str, ...], left_out: list[str]) -> str:
    """Markdown: the ``first`` configs with all figures, then all configs in short.

    Args:
      rows: all there should be.
      first: names of configs.
      left_out: names of configs that have no row.
    """
    full = [row for row in rows if set(row.configs) & set(first)]
    parts = [_HEAD, _versions(rows), _full(full, first)]
    parts += [compile_scaling.section(r.report for r in rows if r.report), _short(rows)]
    if left_out:
        names = ", ".join(f"`{name}`" for name in left_out)
        parts.append(
            f"Not here, because their clips follow from their files: {names}.\n"
        )
    return "\n".join(parts)


def _versions(rows: list[Row]) -> str:
    found = {
        ", ".join(f"{k} {v}" for k, v in row.known["versions"].items())
        for row in rows
        if row.known
    }
    done = sum(bool(row.known) for row in rows)
    count = f"{done} of {len(rows)} programs are compiled so far"
    return f"{count} ({'; '.join(sorted(found))}).\n" if found else f"{count}.\n"


def _full(rows: list[Row], first: tuple[str, ...]) -> str:
    lines = [f"| {_COLUMNS} |", "|" + " --- |" * (_COLUMNS.count("|") + 1)]
    for row in rows:
        (name,) = set(row.configs) & set(first)
        cells = [f"`{name}`", row.topology.name, *_figures(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figures(row: Row) -> list[str]:
    report, chip = row.report, row.topology.chip
    empty = [""] * (_COLUMNS.count("|") - 2)
    if report is None:
        return [row.known.get("error", "not yet compiled"), *empty]
    cells = [f"{report.clips / report.devices:g}", f"{report.parameters:,}"]
    cells += [_memory(report), f"{report.flops / 1e9:,.0f}"]
    if report.temporary is None:
        return cells + empty[: len(empty) + 1 - len(cells)]
    longest, bound = report.roofline(chip)
    step = report.step_seconds(chip)
    reduced = report.collectives.get("all-reduce", (0, 0))[1]
    others = sum(n for k, (_, n) in report.collectives.items() if k != "all-reduce")
    gradients = 2 * report.parameters if report.devices > 1 else 0
    speed = report.clips / step
    return [
        *cells,
        f"{report.moved / 1e9:.3g}",
        f"{reduced / 1e6:.4g} ({gradients / 1e6:.4g})",
        f"{others / 1e6:.3g}",
        f"{longest * 1e3:.3g} ({bound})",
        f"{step * 1e3:.3g}" if report.cycles else "",
        f"{report.flops / chip.peak / step:.0%}" if report.cycles else "",
        ("" if report.cycles else "< ") + f"{speed / report.devices:,.4g}",
        f"{report.epoch / speed:.3g}" if report.epoch and report.cycles else "",
    ]


def _memory(report: aot.Report) -> str:
    if report.peak is None:
        return "does not fit"
    text = f"{report.peak / 2**30:.3g} GiB ({report.peak / report.hbm:.0%})"
    return text if report.fits else f"does not fit: {text}"


def _short(rows: list[Row]) -> str:
    """A line for each program, a column for each topology."""
    names = list(dict.fromkeys(row.topology.name for row in rows))
    programs: dict[str, dict[str, Row]] = {}
    for row in rows:
        programs.setdefault(" ".join(row.configs), {})[row.topology.name] = row
    lines = [
        "## All configs\n",
        "Memory of a device and its share, and the estimate of a step; a dash: not yet"
        " compiled. Configs in one line are one program.\n",
        f"| config | {' | '.join(names)} |",
        "|" + " --- |" * (len(names) + 1),
    ]
    for configs, found in programs.items():
        cells = [_cell(found.get(name)) for name in names]
        listed = " ".join(f"`{name}`" for name in configs.split())
        lines.append(f"| {listed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row | None) -> str:
    if row is None or not row.known:
        return "-"
    if row.report is None:
        return row.known["error"]
    text = _memory(row.report)
    if row.report.cycles:
        step = row.report.step_seconds(row.topology.chip)
        text += f", {step * 1e3:.3g} ms"
    return text
