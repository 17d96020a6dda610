"""What XLA says of the main programs, at reduced sizes: a guard that does not time.

    python experiments/benchmarks/program_figures.py

writes tests/program_figures.json, which ``tests/test_program_guard.py`` compares with.
Run it when a change is meant to cost what it costs, or saves something that should stay
saved, and say so in the commit. Figures depend on the version of jax: those of other
versions are kept. 8 simulated CPU devices; floating-point operations and bytes as
``cost_analysis`` counts them (the body of a loop once), temporary memory of one device,
and how often and how much it sends.
"""

import json
import os
import time
from pathlib import Path

if __name__ == "__main__":  # as the tests have it, see tests/conftest.py
    os.environ["XLA_FLAGS"] = (
        "--xla_force_host_platform_device_count=8"
        " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    )
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax

from stjax.aot import hlo, programs
from stjax.config import load_config

FILE = Path(__file__).parents[2] / "tests" / "program_figures.json"

MARGINS = {"flops": 0.02, "bytes": 0.1, "temporary": 0.1, "collectives": 0.02}
"""How much more than recorded is no regression, as a share; counts are exact."""

_TAU = {
    **{"model.hid_s": 8, "model.hid_t": 32, "model.n_s": 2, "model.n_t": 3},
    **{"model.mlp_ratio": 4.0, "data.t_in": 4, "data.t_out": 4, "data.batch": 8},
}
_CLIPS = {"data.size": 64, "data.test_size": 64, "data.t_in": 4, "data.batch": 8}
_UNIFORMER = {
    **_CLIPS,
    **{"model.depth": (1, 1, 1, 1), "model.embed_dim": (16, 32, 32, 32)},
    **{"model.head_dim": 16, "data.num_classes": 4, "train.bn_group": None},
}
PROGRAMS = {
    "tau train": ("tau/moving_mnist", "train", 8, _TAU),
    "tau train, rows over 2": (
        "tau/moving_mnist",
        "train",
        4,
        {**_TAU, "mesh.space": 2},
    ),
    "tau predict": ("tau/moving_mnist", "predict", 1, _TAU),
    "uniformer train": ("uniformer/kinetics400:s,8x8", "train", 2, _UNIFORMER),
    "nl_i3d train": ("nonlocal/slowfast:i3d_nln_r50,miniature", "train", 2, {}),
    "fusion template train": ("fusion/order_ladder:miniature", "train", 1, {}),
}
"""Name -> config, kind, devices, fields that are set."""


def figures(name: str, **fields: object) -> dict:
    """What XLA says of a program.

    Args:
      name: a key of `PROGRAMS`.
      **fields: of the config, with ``__`` for the dots, beside those of the table.
    """
    config_name, kind, devices, given = PROGRAMS[name]
    config = load_config(config_name)
    with config.unlocked():
        more = {k.replace("__", "."): v for k, v in fields.items()}
        config.mesh.data = -1
        config.update_from_flattened_dict({**given, **more})
    compiled = programs.program(config, kind, jax.devices()[:devices]).compile()
    cost = compiled.cost_analysis()
    sent = hlo.collectives(compiled).items()
    return {
        "flops": int(cost["flops"]),
        "bytes": int(cost["bytes accessed"]),
        "temporary": compiled.memory_analysis().temp_size_in_bytes,
        "collectives": {kind: list(count) for kind, count in sorted(sent)},
    }


def excess(found: dict, stored: dict) -> list[str]:
    """In what a program costs more than recorded, one line each."""
    lines = []
    for key in ("flops", "bytes", "temporary"):
        if found[key] > stored[key] * (1 + MARGINS[key]):
            more = found[key] / max(stored[key], 1) - 1
            lines.append(
                f"{key}: {found[key]:,}, recorded {stored[key]:,}, +{more:.0%}"
            )
    for kind, (count, size) in found["collectives"].items():
        before, amount = stored["collectives"].get(kind, (0, 0))
        if count > before or size > amount * (1 + MARGINS["collectives"]):
            told = f"{count} of {size:,} bytes, recorded {before} of {amount:,}"
            lines.append(f"{kind}: {told}")
    return lines


def main() -> None:
    """Records all programs for this version of jax."""
    records = json.loads(FILE.read_text()) if FILE.exists() else {}
    records[jax.__version__] = {}
    for name in PROGRAMS:
        start = time.process_time()
        records[jax.__version__][name] = found = figures(name)
        seconds = time.process_time() - start
        print(f"{name}: {seconds:.1f} s of CPU, {found}", flush=True)
    FILE.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
