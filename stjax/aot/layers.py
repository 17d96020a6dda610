"""Where a program's cycles go, by layer."""

import collections
import re

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


def profile(program: Program) -> dict[str, int]:
    """Estimated cycles of each layer, the dearest first; see `layer_of`."""
    cycles = collections.Counter()
    for line in program.executed():
        if not line.fused and line.instruction.cycles:
            layer = layer_of(line.instruction.op_name)
            cycles[layer] += line.times * line.instruction.cycles
    return dict(cycles.most_common())
