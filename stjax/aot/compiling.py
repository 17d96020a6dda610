"""From a config and a topology to a `Report`."""

import re
import time
from collections.abc import Collection

import jax
import ml_collections
from etils import epath

from stjax.aot import bundles, hlo, programs, targets
from stjax.aot.layers import profile
from stjax.aot.report import Report
from stjax.aot.text import Program, parse
from stjax.macs import count_macs

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "": 1}


def compile_config(
    config: ml_collections.ConfigDict,
    topology: targets.Topology | str,
    kind: str = "train",
    text: str | None = None,
) -> Report:
    """Compiles a program of a config for devices that need not be there.

    Args:
      config: of a training; ``data.batch`` are clips over all devices.
      topology: or its name, see `stjax.aot.parse_topology`.
      kind: ``"train"`` or ``"predict"``, see `stjax.aot.programs.program`.
      text: file for the optimised program, or None.

    Returns:
      The report; a program that does not fit is a report too.

    Raises:
      UserError: no such topology, its compiler is not installed, or the config does
        not suit it.
    """
    if isinstance(topology, str):
        topology = targets.parse_topology(topology)
    devices = targets.devices(topology)
    program = programs.program(config, kind, devices)
    macs = count_macs(program.function, *program.arguments)
    report = Report(
        config=config.name,
        topology=topology.name,
        kind=kind,
        dtype=config.dtype,
        devices=program.mesh.size,
        clips=program.clips,
        epoch=programs.clips_of_an_epoch(config),
        parameters=program.parameters,
        resident=program.resident,
        hbm=topology.chip.hbm,
        flops=2 * macs / program.mesh.size,
    )
    if topology.chip.is_tpu:
        bundles.clear(bundles.dump_folder())
    start = time.perf_counter()
    try:
        compiled = program.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        found = {"problem": problem(str(error)), "peak": needed(str(error))}
    else:
        found = _facts(compiled, text, topology.chip)
    seconds = time.perf_counter() - start
    return Report(**{**vars(report), **found, "compile_seconds": seconds})


def _facts(compiled: jax.stages.Compiled, file: str | None, chip: targets.Chip) -> dict:
    memory, text = compiled.memory_analysis(), compiled.as_text()
    if file:
        epath.Path(file).write_text(text)
    program = parse(text)
    cost = compiled.cost_analysis() or {}
    calls = hlo.kernels(program)
    kernels = _kernel_cycles(program, calls, chip) if chip.is_tpu else {}
    layers = profile(program, kernels)
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    arguments = memory.argument_size_in_bytes + memory.generated_code_size_in_bytes
    return {
        "temporary": memory.temp_size_in_bytes,
        "peak": arguments + outputs + memory.temp_size_in_bytes,
        "moved": hlo.moved(program),
        "accessed": cost.get("bytes accessed"),
        "compiler_flops": cost.get("flops"),
        "collectives": hlo.collectives(program),
        "cycles": sum(layers.values()) or None,
        "layers": layers,
        "unknown_loops": program.unknown_loops,
        "kernels": sum(calls.values()),
        "kernel_cycles": sum(calls[name] * n for name, n in kernels.items()),
        "uncounted": sum(n for name, n in calls.items() if name not in kernels),
    }


def _kernel_cycles(
    program: Program, calls: Collection[str], chip: targets.Chip
) -> dict[str, int]:
    """The longer of bundles and memory, for each kernel that can be counted."""
    made = bundles.kernel_bundles(bundles.dump_folder(), calls)
    same = hlo.same_kernels(program, calls)
    by_kernel = {same[name]: count for name, count in made.items()}
    counted = {n: by_kernel[k] for n, k in same.items() if k in by_kernel}
    moved, per_byte = hlo.moved_by(program, counted), chip.clock / chip.bandwidth
    return {name: max(n, int(moved[name] * per_byte)) for name, n in counted.items()}


def problem(message: str) -> str:
    """The sentence of an out-of-memory message that tells the sizes."""
    text = " ".join(message.split()).partition("RESOURCE_EXHAUSTED: ")[2]
    return re.split(r"(?<=[\w)])\. |Program hbm requirement", text)[0].strip(" .")


def needed(message: str) -> int | None:
    """Bytes that a program asks for, from the compiler's out-of-memory message."""
    for words in (
        r"Used ([\d.]+)([KMGT]?)i?B? of",
        r"temporaries \(([\d.]+)([KMGT]?)i?B?\)",
        r"allocat\w+ ([\d.]+)\s*([KMGT]?)i?B",
    ):
        if found := re.search(words, message):
            return int(float(found[1]) * _UNITS[found[2]])
    return None
