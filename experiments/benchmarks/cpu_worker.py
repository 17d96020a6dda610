"""One side of a comparison, in a process of its own so that its memory is its own.

    python cpu_worker.py SIDE KIND FOLDER

SIDE is a name in `cpu_sides.SIDES`, KIND ``forward`` or ``train``; FOLDER is what
`cpu_figures.prepare` wrote. Reads a line of JSON at a time and answers with one:
``{"do": "first"}`` makes the side and calls it once, ``{"do": "run", "calls": 3}``
times calls, ``{"do": "memory"}`` tells the peak.
"""

import ctypes
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cpu_sides import Skipped, make

from stjax.pages import keep_pages


def memory(key: str) -> int | None:
    """Bytes of the process: ``VmRSS`` now, ``VmHWM`` at most; None if not told."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(key))


def forget_peak() -> None:
    """From now on, so that compiling does not count (Linux only)."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return


def timed(call: Callable[[], object], calls: int) -> dict[str, float]:
    """Mean seconds of a call, by the wall and of all threads."""
    start = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    end = time.perf_counter(), time.process_time()
    wall, cpu = ((b - a) / calls for a, b in zip(start, end, strict=True))
    return {"seconds": wall, "cpu_seconds": cpu}


def serve(side: str, kind: str, folder: Path, lines, answer: Callable) -> None:
    """Answers commands until there are none."""
    made = None
    for line in lines:
        command = json.loads(line)
        if command["do"] == "first":
            base, start = memory("VmRSS"), time.perf_counter()
            try:
                made = make(side, kind, folder)
            except (ImportError, Skipped) as error:
                answer({"skipped": str(error)})
                return
            seconds = time.perf_counter() - start
            np.save(folder / command["save"], made.result)
            forget_peak()
            versions = {"python": platform.python_version(), **made.versions}
            told = {"versions": versions, "base_bytes": base, "made_seconds": seconds}
            answer({**told, "first": made.seconds})
        elif command["do"] == "run":
            answer(timed(made.call, command["calls"]))
        elif command["do"] == "memory":
            answer({"peak_bytes": memory("VmHWM")})


def main() -> None:
    """See the module."""
    side, kind, folder = sys.argv[1:]
    keep_pages()  # for all sides, as the stjax commands do
    # What libraries print goes to stderr.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(found: dict) -> None:
        out.write(json.dumps(found) + "\n")
        out.flush()

    serve(side, kind, Path(folder), sys.stdin, answer)


if __name__ == "__main__":
    main()
