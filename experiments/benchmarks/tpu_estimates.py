"""What the TPU compiler thinks training steps take, on a machine without a TPU.

    pip install -e ".[aot]"
    python experiments/benchmarks/tpu_estimates.py

compiles the training steps of `PROGRAMS` for one v5e in bfloat16 (minutes each) and
writes tpu_estimates.json and tpu_estimates.md here: estimated cycles, bytes moved,
temporary memory, operations, and cycles by layer. ``--only=tau`` renews one program and
keeps the others. Nothing is measured on a device.
"""

import dataclasses
import importlib.metadata
import json
import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX looks for devices

from absl import app, flags

from stjax import aot, config
from stjax.errors import unknown

_OUT = flags.DEFINE_string(
    "out", str(Path(__file__).with_suffix("")), "Writes OUT.md and OUT.json."
)
_ONLY = flags.DEFINE_list("only", [], "Names of PROGRAMS; all without it.")
_TOPOLOGY = flags.DEFINE_string("topology", "v5e:1x1", "As in stjax compile.")
_TEXT = flags.DEFINE_string("text", "", "Folder for the optimised programs.")

PROGRAMS = {
    "tau": ("tau/moving_mnist", 16),
    "uniformer": ("uniformer/kinetics400:b,32x4", 4),
    "nonlocal": ("nonlocal/kinetics_long:i3d_r101,nl5,128x1", 8),
}
"""Name -> config and clips of a device."""
_LAYERS = 12  # rows of a profile
_NOTE = """\
# Training steps by the TPU compiler's estimate

Written by `python experiments/benchmarks/tpu_estimates.py`; what was tried on the way
is in [tpu_attempts.md](tpu_attempts.md). One {topology}, bfloat16 compute, float32
parameters, whole training step (loss, gradient, optimizer). **Nothing here was measured
on a device.**

- *cycles*: by the compiler's cost model, {clock:g} GHz, and with them *kernels*: those
  written by hand, of which the compiler estimates nothing. Their instructions are
  counted in what it makes of them, as often as they run (`stjax.aot.bundles`), or what
  moving their arrays takes where that is longer. Instructions are not cycles: waiting
  is not in it;
- *moved*: operands and results of all kernels in the main memory; *accessed*: the
  compiler's own count, with the vector memory;
- *operations*: of the program as written for any platform / of the one for this TPU;
- *bound*: the longer of operations at peak and moved bytes at the memory's full speed.

"""
_HEAD = (
    "program | clips | cycles M | kernels M | ms | share of peak | moved GB"
    " | accessed GB | temporary GiB | operations GFLOP | bound ms"
)


def estimate(name: str, topology: str, text: str | None = None) -> dict:
    """Compiles a program of `PROGRAMS`.

    Args:
      name: of the program.
      topology: as in ``stjax compile``.
      text: file for the optimised program, or None.

    Returns:
      The fields of `stjax.aot.Report`, and the ``versions`` of the compiler.
    """
    if name not in PROGRAMS:
        raise unknown("program", name, PROGRAMS)
    of, clips = PROGRAMS[name]
    values = config.load_config(of)
    values.dtype = "bfloat16"
    values.data.batch = clips * aot.parse_topology(topology).size
    report = aot.compile_config(values, topology, text=text)
    versions = {p: importlib.metadata.version(p) for p in ("jax", "libtpu")}
    return dataclasses.asdict(report) | {"versions": versions}


def table(found: dict[str, dict], topology: str) -> str:
    """Markdown of the estimates, by name of the program."""
    chip = aot.parse_topology(topology).chip
    note = _NOTE.format(topology=topology, clock=chip.clock / 1e9)
    lines = [note, f"| {_HEAD} |", "|" + " --- |" * 11]
    for name in (name for name in PROGRAMS if name in found):
        lines.append(_row(name, aot.Report.from_dict(found[name]), chip, found[name]))
    for name in (name for name in PROGRAMS if name in found):
        lines += ["", f"## {name}: `{PROGRAMS[name][0]}`", "", _versions(found[name])]
        lines += ["", "| layer | cycles M | ms |", "| --- | --- | --- |"]
        for layer, cycles in list(found[name]["layers"].items())[:_LAYERS]:
            ms = cycles / chip.clock * 1e3
            lines.append(f"| {layer} | {cycles / 1e6:.2f} | {ms:.2f} |")
    return "\n".join(lines) + "\n"


def _row(name: str, report: aot.Report, chip: aot.Chip, values: dict) -> str:
    start = f"| {name} | {report.clips // report.devices}"
    if report.cycles is None:
        return f"{start} | {report.problem} |" + " |" * 8
    seconds = report.step_seconds(chip)
    bound, of = report.roofline(chip)
    cells = [
        f"{report.cycles / 1e6:.1f}",
        _kernels(report),
        f"{seconds * 1e3:.1f}",
        f"{report.flops / chip.peak / seconds:.0%}",
        f"{report.moved / 1e9:.1f}",
        f"{report.accessed / 1e9:.1f}",
        f"{report.temporary / 2**30:.2f}",
        f"{report.flops / 1e9:,.0f} / {values['compiler_flops'] / 1e9:,.0f}",
        f"{bound * 1e3:.1f} ({of})",
    ]
    return f"{start} | {' | '.join(cells)} |"


def _kernels(report: aot.Report) -> str:
    text = f"{report.kernel_cycles / 1e6:.1f} ({report.kernels} calls)"
    return f"{text}, {report.uncounted} not counted" if report.uncounted else text


def _versions(values: dict) -> str:
    return ", ".join(f"{k} {v}" for k, v in values["versions"].items())


def main(argv: list[str]) -> None:
    """Runs from the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    topology, out = _TOPOLOGY.value, _OUT.value
    file = Path(f"{out}.json")
    found = json.loads(file.read_text()) if file.exists() else {}
    for name in _ONLY.value or PROGRAMS:
        text = str(Path(_TEXT.value) / f"{name}.txt") if _TEXT.value else None
        found[name] = estimate(name, topology, text)
        file.write_text(json.dumps(found, indent=1) + "\n")
        Path(f"{out}.md").write_text(table(found, topology))
    print(table(found, topology))


if __name__ == "__main__":
    app.run(main)
