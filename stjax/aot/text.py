"""Reading an optimised program: what runs, how often, and what it says it costs.

The text of a compiled program (`compiled.as_text()`) is a list of computations, the
entry and those that its instructions call. A loop's body is written once: here it
counts as often as it runs, where the text tells.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\]")
_CALLS = re.compile(
    r"(calls|to_apply|body|condition|branch_computations|true_computation"
    r"|false_computation)=(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
      name: unique in the program.
      shape: of the result, as text.
      opcode: such as ``"fusion"`` or ``"all-reduce-start"``.
      operands: what is in the parentheses, as text.
      rest: attributes, metadata and the backend's notes, as text.
    """

    name: str
    shape: str
    opcode: str
    operands: str
    rest: str

    @property
    def cycles(self) -> int:
        """What the TPU compiler thinks it takes; 0 where it does not say."""
        found = _CYCLES.search(self.rest)
        return int(found[1]) if found else 0

    @property
    def op_name(self) -> str:
        """Where it came from: ``jit(f)/jvp(Model)/layer/dot_general``."""
        found = _OP_NAME.search(self.rest)
        return found[1] if found else ""

    @property
    def callees(self) -> dict[str, list[str]]:
        """Computations it calls, by attribute."""
        return {
            key: re.findall(r"[\w.\-]+", names)
            for key, names in _CALLS.findall(self.rest)
        }


@dataclasses.dataclass(frozen=True)
class Executed:
    """An instruction, how often a step runs it, and whether it is part of a fusion."""

    instruction: Instruction
    times: int
    fused: bool


@dataclasses.dataclass(frozen=True)
class Program:
    """A program as text, taken apart.

    Attributes:
      computations: name -> instructions; the last one of each is its result.
      entry: name of the one that runs.
    """

    computations: dict[str, list[Instruction]]
    entry: str

    def executed(self) -> Iterator[Executed]:
        """Every instruction that runs; all branches of a conditional."""
        yield from self._of(self.entry, 1, False)

    @property
    def unknown_loops(self) -> int:
        """Loops whose length the text does not tell; their bodies count once."""
        instructions = (i for lines in self.computations.values() for i in lines)
        loops = (i for i in instructions if i.opcode == "while")
        return sum(self.trips(loop) is None for loop in loops)

    def _of(self, name: str, times: int, fused: bool) -> Iterator[Executed]:
        for instruction in self.computations.get(name, ()):
            yield Executed(instruction, times, fused)
            inner = times
            if instruction.opcode == "while":
                inner *= self.trips(instruction) or 1
            within = fused or instruction.opcode == "fusion"
            for key, names in instruction.callees.items():
                if key == "to_apply" and instruction.opcode != "call":
                    continue  # the addition of a reduction, and the like
                for callee in names:
                    yield from self._of(callee, inner, within)

    def trips(self, loop: Instruction) -> int | None:
        """How often a ``while`` runs its body; None where that cannot be read."""
        found = _TRIPS.search(loop.rest)
        if found:
            return int(found[1])
        # The TPU compiler leaves only the condition: counter < constant.
        (name,) = loop.callees.get("condition", [""])
        inside = [e.instruction for e in self._of(name, 1, False)]
        numbers = [i for i in inside if i.opcode == "constant" and "[]" in i.shape]
        less = [i for i in inside if i.opcode == "compare" and "=LT" in i.rest]
        if len(numbers) == len(less) == 1 and numbers[0].operands.isdigit():
            return int(numbers[0].operands)
        return None


def parse(text: str) -> Program:
    """Takes the text of an optimised program apart."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line == "}":
            current = None
        elif current is None:
            if line.endswith("{") and not line.startswith((" ", "HloModule")):
                name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
                current = computations.setdefault(name, [])
                entry = name if line.startswith("ENTRY ") else entry
        elif not line.startswith(" "):  # notes of a kernel may have several lines
            rest = f"{current[-1].rest}\n{line}"
            current[-1] = dataclasses.replace(current[-1], rest=rest)
        elif found := _instruction(line):
            current.append(found)
    return Program(computations, entry)


def _instruction(line: str) -> Instruction | None:
    name, equals, right = line.strip().removeprefix("ROOT ").partition(" = ")
    if not equals:
        return None
    end = _closing(right, 0) + 1 if right.startswith("(") else right.index(" ")
    shape, right = right[:end], right[end:].lstrip()
    start = right.index("(")
    stop = _closing(right, start)
    operands, rest = right[start + 1 : stop], right[stop + 1 :]
    return Instruction(name.lstrip("%"), shape, right[:start], operands, rest)


def _closing(text: str, start: int) -> int:
    """Where the parenthesis at ``start`` closes."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.start()
    return len(text)


def shape_bytes(shape: str) -> int:
    """Bytes of an array or tuple, from its shape as text, without padding."""
    total = 0
    for kind, sides in _ARRAY.findall(shape):
        bits = _BITS.get(kind) or int(re.search(r"\d+|$", kind)[0] or 0)
        size = math.prod(map(int, sides.split(","))) if sides else 1
        total += math.ceil(size * bits / 8)
    return total
