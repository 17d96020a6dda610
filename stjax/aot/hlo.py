"""What an optimised program sends, moves and calls, read from its text."""

import collections
import re
from collections.abc import Container

from stjax.aot.text import Instruction, Program, parse, shape_bytes

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

# What costs nothing, or is counted by what it calls.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("while", "call", "conditional", "partition-id", "replica-id"),
}
_SCRATCH = re.compile(r"\b[su]8\[\d+\]")
_ELSEWHERE = re.compile(r"[a-z0-9]+\[[\d,]*\]\{[^}]*S\(\d+\)[^}]*\}")


def moved(program: Program) -> int:
    """Bytes that kernels read and write in the main memory, loops in full.

    Every kernel reads its operands and writes its results once. Of what a fusion only
    slices, such as the stacked weights of a loop over layers, the slices count; of what
    it updates in place, the update.
    """
    shapes, total = _shapes(program), 0
    for line in program.executed():
        i = line.instruction
        if line.fused or i.opcode in _FREE or i.opcode.endswith("-done"):
            continue
        part = _of_fusion(program, i)
        # Calls of cuDNN and cuBLAS return their scratch memory too.
        library = 'custom_call_target="__cu' in i.rest
        whole = {"result": _SCRATCH.sub("", i.shape) if library else i.shape}
        whole |= {place: shapes.get(name, "") for place, name in enumerate(_names(i))}
        for place, shape in whole.items():
            # Arrays in another memory space, a TPU's vector memory, are not moved.
            main = _ELSEWHERE.sub("", shape)
            touched = part.get(place, main) if main else ""
            total += line.times * shape_bytes(touched)
    return total


def _of_fusion(program: Program, fusion: Instruction) -> dict[int | str, str]:
    """Shapes that a fusion touches of operands and result, where these are not whole.

    Keys are places of operands, and ``"result"``.
    """
    names = fusion.callees.get("calls", ())
    lines = [i for name in names for i in program.computations.get(name, ())]
    shapes, found = {i.name: i.shape for i in lines}, {}
    for parameter in (i for i in lines if i.opcode == "parameter"):
        users = [i for i in lines if parameter.name in _names(i)]
        if not users or any(_names(i)[0] != parameter.name for i in users):
            continue
        place = int(parameter.operands)
        if all(i.opcode in ("dynamic-slice", "gather") for i in users):
            found[place] = " ".join(user.shape for user in users)
        elif users[-1] is lines[-1] and users[-1].opcode == "dynamic-update-slice":
            found[place] = ""
            found["result"] = shapes.get(_names(users[-1])[1], "")
    return found


def kernels(program: Program) -> collections.Counter[str]:
    """Hand-written TPU kernels: name of the instruction -> how often it runs.

    The compiler does not know their cycles, see `stjax.aot.bundles`.
    """
    found = collections.Counter()
    for line in program.executed():
        if 'custom_call_target="tpu_custom_call"' in line.instruction.rest:
            found[line.instruction.name] += line.times
    return found


def same_kernels(program: Program, names: Container[str]) -> dict[str, str]:
    """Name of an instruction -> the same text for all calls of the same kernel.

    The compiler makes it once, for one of them.
    """
    shapes, found = _shapes(program), {}
    for i in _instructions(program, names):
        given = " ".join(shapes.get(name, "") for name in _names(i))
        notes = i.rest.partition("backend_config=")[2]
        found[i.name] = f"{i.shape} {given} {notes}"
    return found


def moved_by(program: Program, names: Container[str]) -> dict[str, int]:
    """Bytes to and from the main memory of one run of each of these instructions."""
    shapes = _shapes(program)
    return {
        i.name: sum(
            shape_bytes(_ELSEWHERE.sub("", shape))
            for shape in (i.shape, *(shapes.get(name, "") for name in _names(i)))
        )
        for i in _instructions(program, names)
    }


def _instructions(program: Program, names: Container[str]) -> list[Instruction]:
    lines = program.computations.values()
    return [i for line in lines for i in line if i.name in names]


def collectives(compiled: object) -> dict[str, tuple[int, int]]:
    """What a program sends between devices, on one of them and in one run.

    Args:
      compiled: of ``jax.jit(f).lower(...).compile()``, its text, or a `Program`.

    Returns:
      kind -> (how many, bytes). Bytes are those of the operands; of an all-gather,
      those of the result: the whole array, whatever an algorithm sends.
    """
    program = _program(compiled)
    shapes = _shapes(program)
    found: dict[str, tuple[int, int]] = {}
    for line in program.executed():
        kind = line.instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            count, size = found.get(kind, (0, 0))
            one = _payload(line.instruction, shapes)
            found[kind] = count + line.times, size + line.times * one
    return found


def _payload(instruction: Instruction, shapes: dict[str, str]) -> int:
    sent = sum(shape_bytes(shapes.get(name, "")) for name in _names(instruction))
    if not instruction.opcode.startswith("all-gather"):
        return sent
    result = shape_bytes(instruction.shape)
    # An asynchronous one returns its operands too.
    return result - sent if instruction.opcode.endswith("-start") else result


def _shapes(program: Program) -> dict[str, str]:
    return {i.name: i.shape for lines in program.computations.values() for i in lines}


def _names(instruction: Instruction) -> list[str]:
    return re.findall(r"%([\w.\-]+)", instruction.operands)


def _program(compiled: object) -> Program:
    if isinstance(compiled, Program):
        return compiled
    return parse(compiled if isinstance(compiled, str) else compiled.as_text())
