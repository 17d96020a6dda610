"""Memory, operations and time of the non-local aggregates at res3 of I3D.

    python experiments/benchmarks/non_local.py --out=experiments/benchmarks/non_local

Every pairwise function, dense and in its exact cheaper forms, value and gradient, for
8, 32 and 128 frames of 224x224, one clip, float32. Prints a table and writes it to
OUT.md, the same numbers to OUT.json.
"""

import json
import os
import platform
import re
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from stjax.ops.pairwise import aggregate

_OUT = flags.DEFINE_string("out", "", "Writes OUT.md and OUT.json.")
_FRAMES = flags.DEFINE_list("frames", ["8", "32", "128"], "Rows, of SHAPES.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed calls; their median is reported.")
_MAX_GIB = flags.DEFINE_float("max_gib", 4.0, "Larger programs are compiled, not run.")

SHAPES = {
    "8": (4, 28, 28, "released 8-frame models: time is halved once, before res3"),
    "32": (4, 28, 28, "the paper's table 1: time is halved three times before res3"),
    "128": (16, 28, 28, "the same network on 128 frames"),
    "tiny": (2, 4, 4, "for the tests"),
}
"""Frames -> T, H, W of the map at res3, and why. Keys are subsampled by 1x2x2."""
CHANNELS = 512
FORMS = {
    "embedded_gaussian": ("dense", "chunked"),
    "gaussian": ("dense", "chunked"),
    "dot_product": ("dense", "linear"),
    "concatenation": ("dense", "outer", "sorted"),
}
MIB, GIB = 2**20, 2**30


def sizes(frames: str, pairwise: str) -> tuple[int, int, int, int]:
    """Queries N, keys M, channels d they are compared in, channels e of the values."""
    t, h, w, _ = SHAPES[frames]
    d = CHANNELS if pairwise == "gaussian" else CHANNELS // 2
    return t * h * w, t * (h // 2) * (w // 2), d, CHANNELS // 2


def operations(pairwise: str, impl: str, n: int, m: int, d: int, e: int) -> int:
    """Additions and multiplications of value and gradient, by counting.

    Exponentials and divisions are left out, and so are the comparisons of the sort.
    A product of matrices has two products in its gradient. Chunked attention computes
    the logits once more.
    """
    pairs = n * m
    if impl == "linear":
        return 3 * 2 * (n + m) * d * e
    if pairwise == "dot_product":
        return 3 * 2 * pairs * (d + e)
    if pairwise != "concatenation":
        again = 2 * pairs * d if impl == "chunked" else 0
        return 3 * 2 * pairs * (d + e) + again
    if impl == "dense":
        return 3 * 2 * pairs * (2 * d + e)
    project = 3 * 2 * (n + m) * d
    if impl == "outer":
        # a + b and ReLU, twice; its gradient, and the sums over either index.
        return project + 3 * 2 * pairs * e + 7 * pairs
    # Two prefix sums, b g, a S0 + S1: forward over keys, backward over queries; then
    # the two sums over channels.
    return project + (3 * m + 2 * n) * e + (3 * n + 2 * m) * e + 2 * (n + m) * e


def program(pairwise: str, impl: str, n: int, m: int, d: int, e: int):
    """The compiled value and gradient, and the arrays it takes."""
    rng = np.random.default_rng(0)
    shapes = [(1, n, d), (1, m, d), (1, m, e)]
    if pairwise == "concatenation":
        shapes.append((2 * d,))
    args = [rng.standard_normal(s).astype(np.float32) / d**0.25 for s in shapes]

    def loss(theta, phi, g, weight=None):
        y = aggregate(theta, phi, g, pairwise=pairwise, weight=weight, impl=impl)
        return jnp.square(y).sum()

    step = jax.jit(jax.value_and_grad(loss, tuple(range(len(args)))))
    return step.lower(*args).compile(), args


def largest_array(text: str) -> int:
    """Numbers in the largest array that the compiled program's text names."""
    shapes = re.findall(r"\b(?:f32|bf16|pred|s32)\[([\d,]+)\]", text)
    return max(int(np.prod([int(n) for n in s.split(",")])) for s in shapes)


def measure(pairwise: str, impl: str, frames: str, repeats: int, max_gib: float):
    """One row: what XLA says of the compiled program, and how long a call takes."""
    n, m, d, e = sizes(frames, pairwise)
    compiled, args = program(pairwise, impl, n, m, d, e)
    text = compiled.as_text()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    loops = " while(" in text
    row = {
        "pairwise": pairwise,
        "impl": impl,
        "frames": frames,
        "queries": n,
        "keys": m,
        "channels": d,
        "temporary_bytes": temporary,
        "largest_array": largest_array(text),
        "pairs": n * m,
        "operations": operations(pairwise, impl, n, m, d, e),
        # XLA counts the body of a loop once, whatever its length.
        "xla_operations": None if loops else compiled.cost_analysis()["flops"],
        "seconds": None,
        "processor_seconds": None,
    }
    if temporary <= max_gib * GIB:
        args = jax.device_put(args)
        jax.block_until_ready(compiled(*args))
        times = []
        for _ in range(repeats):
            start = time.perf_counter(), time.process_time()
            jax.block_until_ready(compiled(*args))
            end = time.perf_counter(), time.process_time()
            times.append([b - a for a, b in zip(start, end, strict=True)])
        wall, processor = (statistics.median(x) for x in zip(*times, strict=True))
        row |= {"seconds": wall, "processor_seconds": processor}
    return row


def machine() -> dict:
    """Where the numbers come from."""
    return {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jax.lib.__version__,
        "load": os.getloadavg()[0],
    }


def markdown(where: dict, rows: list[dict]) -> str:
    """The table, after what it was measured on."""
    lines = [
        "Non-local aggregates at res3 of I3D, one clip of 224x224, float32, value and"
        f" gradient. {where['device']} {where['architecture']}, {where['cores']} cores,"
        f" jax {where['jax']}, jaxlib {where['jaxlib']}, Python {where['python']}; load"
        f" average {where['load']:.1f} at the start. Where other processes run too"
        " (a load beyond what the benchmark makes), wall times are indications, and"
        " processor time (all cores; of the host, so only for a CPU) says more.",
        "",
    ]
    for frames in dict.fromkeys(row["frames"] for row in rows):
        t, h, w, why = SHAPES[frames]
        lines.append(f"- {frames} frames: map {t}x{h}x{w} ({why}).")
    lines += [
        "",
        "Memory is XLA's temporary memory; the largest array is the largest that the"
        " compiled program names, beside N M for all pairs. GFLOP are counted by hand,"
        " XLA's own count is there for programs without loops (it counts a loop's body"
        " once). 'Less' is GFLOP of the dense form over those of the row.",
        "",
        "| pairwise | frames | form | N | M | d | MiB | largest / (N M) | GFLOP | XLA |"
        " less | ms | processor ms |",
        "| --- " * 13 + "|",
    ]
    dense = {
        (row["pairwise"], row["frames"]): row["operations"]
        for row in rows
        if row["impl"] == "dense"
    }
    return "\n".join(lines + [_line(row, dense) for row in rows]) + "\n"


def _line(row, dense):
    less = dense[row["pairwise"], row["frames"]] / row["operations"]
    xla = row["xla_operations"]
    times = [row["seconds"], row["processor_seconds"]]
    cells = [
        row["pairwise"],
        row["frames"],
        row["impl"],
        f"{row['queries']:,}",
        f"{row['keys']:,}",
        row["channels"],
        f"{row['temporary_bytes'] / MIB:,.1f}",
        f"{row['largest_array'] / row['pairs']:.3g}",
        f"{row['operations'] / 1e9:.3g}",
        "" if xla is None else f"{xla / 1e9:.3g}",
        f"{less:.3g}",
        *("compiled only" if t is None else f"{t * 1e3:,.0f}" for t in times),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def run(frames: list[str], repeats: int, max_gib: float) -> tuple[dict, list[dict]]:
    """The machine and all rows; the same shape is measured once."""
    where, done, rows = machine(), {}, []
    for pairwise, impls in FORMS.items():
        for name in frames:
            for impl in impls:
                key = pairwise, impl, SHAPES[name][:3]
                if key not in done:
                    done[key] = measure(pairwise, impl, name, repeats, max_gib)
                rows.append(done[key] | {"frames": name})
                print(pairwise, name, impl, rows[-1]["seconds"], flush=True)
    return where, rows


def main(argv: list[str]) -> None:
    """Prints the table and writes it."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    where, rows = run(_FRAMES.value, _REPEATS.value, _MAX_GIB.value)
    table = markdown(where, rows)
    print(table)
    if _OUT.value:
        Path(f"{_OUT.value}.md").write_text(table)
        text = json.dumps({"machine": where, "rows": rows}, indent=1)
        Path(f"{_OUT.value}.json").write_text(text + "\n")


if __name__ == "__main__":
    app.run(main)
