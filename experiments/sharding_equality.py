"""Whether a mesh changes what is computed, and what its devices tell each other.

    python experiments/sharding_equality.py

compiles loss and gradient of a small version of every model for one device and for
meshes (data, fsdp, space) of eight simulated ones, compares, and counts collectives.
Finished models are kept in sharding_equality.json, and an interrupted run goes on;
``--only=tau,convlstm`` takes some, ``--again`` those that are there, too. The table
goes to sharding_equality.md. Of models that deviate by more than 2e-5 it also measures
how much rounding does to them; sharding_float64.py measures those without it.
"""

import json
import os
import time

# Before JAX looks for devices.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8"
    " --xla_llvm_disable_expensive_passes=true "  # programs run once
    + os.environ.get("XLA_FLAGS", "")
)

import jax
from absl import app, flags
from etils import epath
from sharding_cases import CASES, MESHES, measure, rounding

_HERE = epath.Path(__file__).parent
_ONLY = flags.DEFINE_list("only", None, "Names of cases; None: all.")
_AGAIN = flags.DEFINE_bool("again", False, "Measure those that are there, too.")
_OUT = flags.DEFINE_string("out", str(_HERE / "sharding_equality"), "File, no suffix.")

NOTABLE = 2e-5
KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute")

HEAD = """\
# Sharded equals unsharded

Loss and gradient of small versions of models, float32, on meshes (data, fsdp,
space) of eight simulated CPU devices, against one device. Errors are the largest
absolute deviation over the largest entry of an array (`error` in sharding_cases.py).
All parameters but depthwise kernels are split over fsdp, however small. ResNets have
fewer blocks than their names say.

Where a deviation is above 2e-5, *rounding* is what one device deviates by if every
parameter moves by 1e-7 of itself, and *float64* what 2x2x2 deviates by if whatever is
float32 is float64: a mesh that computed something else would do so there, too. ReLU,
max-pooling, and batch statistics of few values jump or amplify, and rounding with them.

Collectives are those of one device in one step, as `stjax.aot.hlo.collectives` counts
them: how many, kilobytes. Where fsdp is 1, no parameter is gathered, so an all-gather
is one of activations, or of gradients of parameters that are as large as a map.
Made by sharding_equality.py with jax {jax}.
"""


def worst(row: dict[str, dict]) -> float:
    """The largest deviation of a model on any mesh."""
    return max(row["x".join(map(str, sizes))]["error"] for sizes in MESHES)


def table(rows: dict[str, dict], wide: dict[str, float]) -> str:
    """The page, from the recorded rows and the deviations in float64."""
    meshes = ["x".join(map(str, sizes)) for sizes in MESHES]
    lines = [HEAD.format(jax=jax.__version__), "## Errors", ""]
    columns = [*meshes, "rounding", "float64"]
    lines += [f"| model | {' | '.join(columns)} |"]
    lines += ["| --- |" + " ---: |" * len(columns)]
    for name, row in rows.items():
        errors = [row[mesh]["error"] for mesh in meshes]
        errors += [row.get("rounding"), wide.get(name)]
        cells = ("" if error is None else f"{error:.1e}" for error in errors)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for mesh in meshes:
        lines += ["", f"## Collectives, {mesh}", ""]
        lines += [
            f"| model | {' | '.join(KINDS)} |",
            "| --- |" + " ---: |" * len(KINDS),
        ]
        for name, row in rows.items():
            found = row[mesh]["collectives"]
            cells = (_cell(*found.get(kind, (0, 0))) for kind in KINDS)
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(count: int, size: int) -> str:
    return f"{count}, {size / 1e3:.1f}" if count else ""


def write(stem: str, rows: dict[str, dict]) -> None:
    """Keeps the rows, and writes the page."""
    epath.Path(stem + ".json").write_text(json.dumps(rows, indent=1) + "\n")
    wide = epath.Path(stem).with_name("sharding_float64.json")
    errors = json.loads(wide.read_text()) if wide.exists() else {}
    epath.Path(stem + ".md").write_text(table(rows, errors))


def main(argv: list[str]) -> None:
    """Measures what is missing, one model after the other."""
    del argv
    record = epath.Path(_OUT.value + ".json")
    rows = json.loads(record.read_text()) if record.exists() else {}
    for name in _ONLY.value or CASES:
        if name not in rows or _AGAIN.value:
            start = time.perf_counter()
            rows[name] = measure(CASES[name])
            seconds = time.perf_counter() - start
            print(f"{name}: {worst(rows[name]):.1e} in {seconds:.0f} s", flush=True)
        if worst(rows[name]) > NOTABLE and "rounding" not in rows[name]:
            rows[name]["rounding"] = rounding(CASES[name])
            print(f"{name}: rounding does {rows[name]['rounding']:.1e}", flush=True)
        rows = {key: rows[key] for key in CASES if key in rows}
        write(_OUT.value, rows)


if __name__ == "__main__":
    app.run(main)
