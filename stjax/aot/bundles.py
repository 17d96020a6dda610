"""How long hand-written TPU kernels might take: their instructions, counted.

The TPU compiler estimates no cycles for a kernel of Pallas, so a program with kernels
would seem fast for nothing. It does say what instructions it makes: bundles, one a
cycle where nothing waits. Here those are counted as often as they run.

A count is not a time. Waiting for the memory is not in it (`stjax.aot.layers` takes the
time to move a kernel's arrays where that is longer), nor what a step of a grid costs to
start; and of conditional code every turn counts, so it may also be too high.
"""

import atexit
import dataclasses
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

_LINE = re.compile(
    r"^ *(?:0x[0-9a-f]+|0) +(?:([A-Z]{2}) *)?: *>* *\{"
    r"(.*?)(?=^ *0x[0-9a-f]+ +(?:[A-Z]{2} *)?: |\Z)",
    re.MULTILINE | re.DOTALL,
)
_BRANCH = re.compile(r"sbr\.rel \(!%(p\w+)\) target = \$region(\d+)")
_EXIT = r"%{} = scmp\.ge\.s32\.totalorder (?:\(!?%p\w+\), )?%s\w+, (\d+)"
_DELAY = 4  # bundles after a branch that still run
_GRID = "iteration index"
_AROUND = 2  # turns of a grid's loop that only fetch and store
_LAST_PASS = "final_bundles"
_NAME = re.compile(rf"\d+-(.+)-\d+-{_LAST_PASS}\.txt")


@functools.cache
def dump_folder() -> Path:
    """A temporary folder, where the TPU compiler of this process writes bundles.

    To be called before libtpu is loaded. It takes the place of one in the user's
    ``LIBTPU_INIT_ARGS``: the last flag counts.
    """
    folder = tempfile.mkdtemp(prefix="stjax_bundles_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    flags = (
        f"--xla_jf_dump_to={folder}",
        "--xla_jf_dump_llo_text=true",
        f"--xla_jf_dump_llo_pass_label_regex={_LAST_PASS}",
    )
    given = os.environ.get("LIBTPU_INIT_ARGS", "")
    os.environ["LIBTPU_INIT_ARGS"] = " ".join((given, *flags)).strip()
    return Path(folder)


def clear(folder: Path) -> None:
    """Removes what was written for other programs."""
    for file in folder.iterdir():
        file.unlink(missing_ok=True)


def kernel_bundles(folder: Path, names: Collection[str]) -> dict[str, int]:
    """Bundles of kernels by the name of their instruction, where they can be counted.

    Args:
      folder: of the dump.
      names: of custom calls in the optimised program.
    """
    found = {}
    for file in folder.glob(f"*{_LAST_PASS}.txt"):
        match = _NAME.fullmatch(file.name)
        if match and match[1] in names and (count := count_bundles(file.read_text())):
            found[match[1]] = count
    return found


@dataclasses.dataclass
class _Loop:
    own: int = 0
    inner: int = 0
    grid: bool = False

    @property
    def once(self) -> int:
        return self.own + self.inner


def count_bundles(text: str) -> int | None:
    """Bundles that a kernel runs through; None where a loop's length is not told.

    Loops begin at a line marked LB and end with a branch backwards, that is to a
    region which does not begin further down, and its delay slots. Their counters run
    from 0 to the constant that the branch's condition compares with.
    """
    starts = re.finditer(r"Start(?:/End empty)? region (\d+)", text)
    forward = {found[1]: found.start() for found in starts}
    loops, ending = [_Loop()], None
    for line in _LINE.finditer(text):
        mark, body = line.groups()
        if mark == "LB":
            loops.append(_Loop())
        loops[-1].own += 1
        loops[-1].grid |= _GRID in body and len(loops) == 2
        for predicate, region in _BRANCH.findall(body):
            if len(loops) > 1 and forward.get(region, -1) < line.start():
                ending = [predicate, _DELAY]
        if ending is None:
            continue
        if ending[1]:
            ending[1] -= 1
            continue
        turns = re.search(_EXIT.format(re.escape(ending[0])), text)
        if turns is None:
            return None
        loop, ending = loops.pop(), None
        loops[-1].inner += loop.once * (int(turns[1]) - _AROUND * loop.grid)
    return loops[0].once if len(loops) == 1 else None
