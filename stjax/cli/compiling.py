"""``stjax compile``: what a training would need and do on a TPU or GPU."""

import json
import os

from etils import epath

from stjax.cli.flagging import Config
from stjax.errors import UserError, unknown

_MIB, _GIB = 2**20, 2**30
_ROWS = 15  # of the profile
_GPU_SHARE = 0.75  # of its memory, that JAX takes unless it is told otherwise


def compile(
    *,
    config: Config,
    topology: str,
    program: str = "train,predict",
    per_device: int | None = None,
    output: str | None = None,
    text: str | None = None,
) -> None:
    """Compiles for a TPU or GPU that is not there: does it fit, how fast might it be?

    Needs the target's compiler, pip install "stjax[aot]" for TPUs, and minutes for a
    model of full size. Nothing is run: times are estimates, and labelled so.

    Args:
      config: such as tau/moving_mnist; --config.dtype=bfloat16, --config.mesh.fsdp=4
        and so on override its fields.
      topology: chips and their torus, such as v5e:4x4, v4:2x2x1, v5p:2x2x2, v6e:2x4,
        tpu7x:2x2x1; or GPUs as hosts x GPUs a host, such as h100:1x8, a100:4x8.
      program: train, predict or train,predict (the default).
      per_device: sets data.batch to this times the number of devices.
      output: also write everything to this .json.
      text: folder for the optimised programs.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX looks for devices
    from stjax import aot
    from stjax.aot import programs

    kinds = program.split(",")
    for kind in kinds:
        if kind not in programs.KINDS:
            raise unknown("program", kind, programs.KINDS)
    if per_device is not None and per_device < 1:
        raise UserError(f"--per_device={per_device}; it has to be at least 1")
    goal = aot.parse_topology(topology)
    if per_device:
        config.data.batch = per_device * goal.size
    found = {}
    for kind in kinds:
        file = None
        if text:
            epath.Path(text).mkdir(parents=True, exist_ok=True)
            file = str(epath.Path(text) / f"{kind}.txt")
        report = aot.compile_config(config, goal, kind, file)
        found[kind] = report.to_dict()
        print("\n".join(_lines(report, config, goal.chip)), end="\n\n", flush=True)
    if output:
        epath.Path(output).write_text(json.dumps(found, indent=2))
        print(f"wrote {output}")


def _lines(report, config, chip) -> list[str]:
    lines = [
        f"{report.config}, {report.kind}, {report.dtype}, {report.topology}:"
        f" {report.clips} clips on {report.devices} devices,"
        f" {report.clips / report.devices:g} on each",
        f"  compiled in {report.compile_seconds:.0f} s;"
        f" {report.parameters:,} parameters",
        *_memory(report, config, chip),
    ]
    if report.temporary is None:
        return lines
    return lines + _traffic(report, chip) + _time(report, chip) + _layers(report, chip)


def _memory(report, config, chip) -> list[str]:
    from stjax import aot

    parts = [f"{k} {_size(v)}" for k, v in report.resident.items()]
    if report.temporary is not None:
        parts.append(f"activations and other temporaries {_size(report.temporary)}")
    lines = [f"memory of a device: {', '.join(parts)}"]
    asked = "unknown" if report.peak is None else _size(report.peak)
    share = f" ({report.peak / report.hbm:.0%})" if report.peak else ""
    if report.fits:
        lines.append(f"FITS: peak {asked} of {_size(report.hbm)}{share}")
        if not chip.is_tpu and report.peak > _GPU_SHARE * report.hbm:
            lines.append("  with XLA_PYTHON_CLIENT_MEM_FRACTION=.95 set")
        return lines
    lines.append(f"DOES NOT FIT: asks for {asked} of {_size(report.hbm)}{share}")
    if report.problem:
        lines.append(f"  the compiler says: {report.problem}")
    lines.append(f"  try --config.: {aot.advice(config, report)}")
    if enough := aot.others(report):
        lines.append(f"  as it is, memory would do on: {', '.join(enough)}")
    return lines


def _traffic(report, chip) -> list[str]:
    sent = [
        f"{count} {kind} of {_size(size)} in all"
        for kind, (count, size) in sorted(report.collectives.items())
    ]
    own = ""
    if report.accessed:
        own = f"; the compiler counts {_size(report.accessed)}, vector memory included"
    return [
        f"collectives of a step: {', '.join(sent) or 'none'}",
        f"arithmetic: {report.flops / 1e9:,.4g} GFLOP (matrix products and"
        " convolutions, loops counted in full)",
        f"memory traffic: {_size(report.moved)} (operands and results of kernels{own})",
    ]


def _time(report, chip) -> list[str]:
    longest, bound = report.roofline(chip)
    each = ", ".join(f"{k} {_ms(v)}" for k, v in report.seconds(chip).items())
    lines = [
        f"roofline (estimate): {_ms(longest)} a step, bound by {bound} ({each})",
    ]
    step = report.step_seconds(chip)
    if report.cycles:
        lines.append(
            f"compiler's estimate: {report.cycles:,} cycles ="
            f" {_ms(report.cycles / chip.clock)} at {chip.clock / 1e9:g} GHz, without"
            f" collectives; with them {_ms(step)} a step,"
            f" {report.flops / chip.peak / step:.0%} of the peak"
        )
        if report.kernels:
            lines.append(
                f"  {report.kernel_cycles:,} of them: {report.kernels} calls of"
                " hand-written kernels, by their instructions, not the compiler's"
                " estimate"
            )
        if report.uncounted:
            lines.append(
                f"  not in it: {report.uncounted} of these calls, whose instructions"
                " could not be counted"
            )
        if report.unknown_loops:
            lines.append(
                f"  {report.unknown_loops} loops of unknown length counted once"
            )
    speed = report.clips / step
    what = "estimate" if report.cycles else "at best, from the roofline"
    lines.append(
        f"clips a second ({what}): {speed:,.4g}, {speed / report.devices:,.4g} a device"
    )
    if report.epoch and report.kind == "train":
        seconds = report.epoch / speed
        lines.append(f"an epoch of {report.epoch:,} clips ({what}): {seconds:,.3g} s")
    return lines


def _layers(report, chip) -> list[str]:
    if not report.cycles:
        return []
    lines = ["profile by layer (compiler's estimate):"]
    rows = list(report.layers.items())
    for name, cycles in rows[:_ROWS]:
        share = cycles / report.cycles
        lines.append(f"  {_ms(cycles / chip.clock):>10} {share:>5.1%}  {name}")
    if rest := sum(cycles for _, cycles in rows[_ROWS:]):
        share = rest / report.cycles
        lines.append(f"  {_ms(rest / chip.clock):>10} {share:>5.1%}  other layers")
    return lines


def _size(count: float) -> str:
    unit, name = (_GIB, "GiB") if count >= _GIB / 10 else (_MIB, "MiB")
    return f"{count / unit:.3g} {name}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
