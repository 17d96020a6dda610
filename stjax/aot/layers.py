"""Where a program's cycles go, by layer."""

import collections
import re
from collections.abc import Mapping

from stjax.aot.text import Program

_DEPTH = 4  # names of a layer's path that are kept
_OTHERS = "optimizer, loss and the rest"


def layer_of(op_name: str) -> str:
    """The layer that an instruction came from, without numbers.

    ``jit(step)/transpose(jvp(SimVP))/hid/enc_3/mlp/fc1/dot`` is ``hid/enc/mlp/fc1
    (backward)``: equal blocks of a network are one row of a profile.
    """
    parts = re.sub(r"\w+\([^/]*\)+", "", op_name).split("/")[:-1]
    names = [
        re.sub(r"[_.]?\d+(to\d+(by\d+)?)?$", "", part)
        for part in parts
        if _is_module(part)
    ]
    if names and names[0][0].isupper():  # the model's own name
        names = names[1:] or ["the model itself"]
    if not names:
        return _OTHERS
    backward = " (backward)" if "transpose(" in op_name else ""
    return "/".join(names[:_DEPTH]) + backward


def _is_module(part: str) -> bool:
    """Or a step of the tracer, or a method: ``closed_call``, ``SimVP._call``."""
    return not re.fullmatch(
        r"|\w+\.\w+|while|body|closed_call|cond|branch_\d+_fun", part
    )


def profile(program: Program, kernels: Mapping[str, int] = {}) -> dict[str, int]:
    """Estimated cycles of each layer, the dearest first; see `layer_of`.

    Args:
      program: to be read.
      kernels: cycles of hand-written ones, by name of the instruction.
    """
    cycles = collections.Counter()
    for line in program.executed():
        instruction = line.instruction
        one = instruction.cycles or kernels.get(instruction.name, 0)
        if not line.fused and one:
            cycles[layer_of(instruction.op_name)] += line.times * one
    return dict(cycles.most_common())
