"""The table of estimates, from figures made up."""

import sys
from pathlib import Path

import pytest

from stjax.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "benchmarks"))
import tpu_estimates

FIGURES = {
    "config": "tau/moving_mnist",
    "topology": "v5e:1x1",
    "kind": "train",
    "dtype": "bfloat16",
    "devices": 1,
    "clips": 16,
    "epoch": None,
    "parameters": 44_656_001,
    "resident": {},
    "hbm": 2**34,
    "flops": 1.97e12,  # 10 ms of a v5e
    "compiler_flops": 2e12,
    "temporary": 2**30,
    "peak": 2**31,
    "moved": 8.19e9,  # the same
    "accessed": 9e9,
    "cycles": 30_000_000,  # 20 ms
    "layers": {"hid/enc": 20_000_000, "dec": 10_000_000},
    "kernels": 3,
    "kernel_cycles": 4_000_000,
    "uncounted": 1,
    "versions": {"jax": "1", "libtpu": "2"},
}


def test_table():
    text = tpu_estimates.table({"tau": FIGURES}, "v5e:1x1")
    cells = (
        "| tau | 16 | 30.0 | 4.0 (3 calls), 1 not counted | 20.0 | 50% | 8.2 | 9.0 |"
    )
    assert f"{cells} 1.00 | 1,970 / 2,000 | 10.0 (" in text
    assert "| hid/enc | 20.00 | 13.33 |" in text
    assert "jax 1, libtpu 2" in text


def test_a_program_that_does_not_fit():
    values = FIGURES | {"cycles": None, "layers": {}, "problem": "too large"}
    assert "| tau | 16 | too large |" in tpu_estimates.table({"tau": values}, "v5e:1x1")


def test_unknown_program():
    with pytest.raises(UserError, match="tau"):
        tpu_estimates.estimate("tao", "v5e:1x1")
