"""Whether what a mesh changes is rounding: the same comparison in float64.

    python experiments/sharding_float64.py

measures the models that sharding_equality.json has with more than 2e-5, one device
against the mesh (2, 2, 2), where all axes are in use. The library computes statistics,
softmax and losses in float32 whatever a model's dtype is, so here the name float32
means float64 before anything is imported. Finished models are kept in
sharding_float64.json; the deviations get a column of sharding_equality.md.
"""

# ruff: noqa: E402

import json
import os

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX looks for devices
os.environ["JAX_ENABLE_X64"] = "1"

import jax.numpy as jnp
import numpy as np

jnp.float32, np.float32 = jnp.float64, np.float64

from absl import app
from etils import epath
from sharding_cases import CASES, measure
from sharding_equality import NOTABLE, table, worst

_HERE = epath.Path(__file__).parent


def main(argv: list[str]) -> None:
    """Measures what is missing, one model after the other."""
    del argv
    record, stem = _HERE / "sharding_float64.json", _HERE / "sharding_equality"
    errors = json.loads(record.read_text()) if record.exists() else {}
    rows = json.loads(stem.with_suffix(".json").read_text())
    for name, row in rows.items():
        if worst(row) > NOTABLE and name not in errors:
            (found,) = measure(CASES[name], [(2, 2, 2)]).values()
            errors[name] = found["error"]
            record.write_text(json.dumps(errors, indent=1) + "\n")
            print(f"{name}: {errors[name]:.1e} in float64", flush=True)
    rows = json.loads(stem.with_suffix(".json").read_text())
    stem.with_suffix(".md").write_text(table(rows, errors))


if __name__ == "__main__":
    app.run(main)
