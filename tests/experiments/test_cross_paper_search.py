"""What the experiment across papers tells of its trainings."""

import sys
from pathlib import Path

import pytest

from stjax.config import load_config

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import cross_paper_search

SCORED = [
    {
        "strategy": name,
        "units": units,
        "params": params,
        "macs": 2_000_000,
        "log_prob": -1.5,
        "metrics": {"mse": mse, "ssim": 0.5},
        "from": ["sample"],
    }
    for name, units, params, mse in (
        ("ug", ["tau", "gsta"], 1234, 20.0),
        ("uu", ["tau", "tau"], 1000, 21.0),
    )
]
RANKING = {
    "model": "simvp_mixed",
    "size": 49,
    "letters": {"tau": "u", "gsta": "g"},
    "clips": 400,
    "split": "validation",
    "bn": "measured",
    "metric": "mse",
    "mode": "uu",
    "gates": {"moved": 0.25},
    "rows": SCORED,
}


def run(seed, mse):
    return {
        "metrics": {"mse": mse, "ssim": 0.6},
        "steps": 800,
        "seconds": 90.0,
        "seed": seed,
        "clips": 400,
        "devices": "1 x cpu",
    }


def test_table():
    runs = [run(1, 18.0), run(2, 19.0), run(3, 20.0)]
    row = cross_paper_search.row(2, SCORED[1], ["tau"], runs)
    assert row["seeds"] == [1, 2, 3] and row["alone"]["mse"] == [18.0, 19.0, 20.0]
    fitted = {"steps": 2400, "seconds": 600, "params": 5000, "devices": "1 x cpu"}
    text = cross_paper_search.table(fitted, RANKING, [row])
    line = (
        "| tau `uu` | 2 of 2 | 21 | 19 ± 1 | 0.6 ± 0 | 1, 2, 3 | 1,000 | 2 | 1.5 min |"
    )
    assert line in text.splitlines()
    assert "| 1 | `ug` | 20 | 0.5 | 1,234 | -1.5 | sample |" in text.splitlines()
    assert "49 strategies" in text


@pytest.mark.parametrize("name", ["moving_digits", "uniformer_blocks"])
def test_its_configs_are_searches(name):
    config = load_config(f"fusion/{name}")
    assert config.search.gate == "categorical" and config.train.steps
