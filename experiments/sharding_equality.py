"""Whether a mesh changes what is computed, and what its devices tell each other.

    python experiments/sharding_equality.py

compiles loss and gradient of a small version of every model for one device and for
meshes (data, fsdp, space) of eight simulated ones, compares, and counts collectives.
Finished models are kept in sharding_equality.json, and an interrupted run goes on;
``--only=tau,convlstm`` takes some, ``--again`` those that are there, too. The table
goes to sharding_equality.md.
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
from sharding_cases import CASES, MESHES, measure

_HERE = epath.Path(__file__).parent
_ONLY = flags.DEFINE_list("only", None, "Names of cases; None: all.")
_AGAIN = flags.DEFINE_bool("again", False, "Measure those that are there, too.")
_OUT = flags.DEFINE_string("out", str(_HERE / "sharding_equality"), "File, no suffix.")

TOLERANCE = 1e-4
KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute")

HEAD = """\
# Sharded equals unsharded

Loss and gradient of small versions of models, float32, on meshes (data, fsdp,
space) of eight simulated CPU devices, against one device. Errors are the largest
absolute deviation over the largest entry of an array (`error` in sharding_cases.py).
All parameters but depthwise kernels are split over fsdp, however small. ResNets have
fewer blocks than their names say.

Collectives are those of one device in one step, as `stjax.aot.hlo.collectives` counts
them: how many, kilobytes. Where fsdp is 1, no parameter is gathered, so an all-gather
is one of activations, or of gradients of parameters that are as large as a map.
Made by sharding_equality.py with jax {jax}.
"""


def table(rows: dict[str, dict]) -> str:
    """The page, from the recorded rows."""
    meshes = ["x".join(map(str, sizes)) for sizes in MESHES]
    lines = [HEAD.format(jax=jax.__version__), "## Errors", ""]
    lines += [f"| model | {' | '.join(meshes)} |", "| --- |" + " ---: |" * len(meshes)]
    for name, row in rows.items():
        cells = (f"{row[mesh]['error']:.1e}" for mesh in meshes)
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


def main(argv: list[str]) -> None:
    """Measures what is missing, one model after the other."""
    del argv
    record, page = epath.Path(_OUT.value + ".json"), epath.Path(_OUT.value + ".md")
    rows = json.loads(record.read_text()) if record.exists() else {}
    for name in _ONLY.value or CASES:
        if name in rows and not _AGAIN.value:
            continue
        start = time.perf_counter()
        rows[name] = measure(CASES[name])
        rows = {key: rows[key] for key in CASES if key in rows}
        record.write_text(json.dumps(rows, indent=1) + "\n")
        page.write_text(table(rows))
        worst = max(row["error"] for row in rows[name].values())
        verdict = "equal" if worst < TOLERANCE else "NOT EQUAL"
        print(f"{name}: {verdict}, {worst:.1e}", flush=True)
        print(f"  {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    app.run(main)
