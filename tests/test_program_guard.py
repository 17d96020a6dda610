"""Programs cost no more than recorded: operations, bytes, memory, what is sent.

To renew the record: ``python experiments/benchmarks/program_figures.py``.
"""

import json
import sys
from pathlib import Path

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments" / "benchmarks"))
import program_figures

RENEW = "if that is meant, python experiments/benchmarks/program_figures.py renews it"


@pytest.fixture(scope="module")
def stored():
    records = json.loads(program_figures.FILE.read_text())
    if jax.__version__ not in records:
        pytest.skip(
            f"nothing is recorded for jax {jax.__version__}, only for {list(records)}"
        )
    return records[jax.__version__]


@pytest.mark.parametrize("name", program_figures.PROGRAMS)
def test_no_program_costs_more_than_recorded(name, stored):
    found = program_figures.figures(name)
    assert not program_figures.excess(found, stored[name]), RENEW


def test_a_regression_is_seen(stored):
    """Every block computed once more: a planted one."""
    found = program_figures.figures("tau predict", model__n_t=4)
    lines = program_figures.excess(found, stored["tau predict"])
    assert [line.partition(":")[0] for line in lines][:2] == ["flops", "bytes"]


def test_margins():
    one = {"flops": 1000, "bytes": 1000, "temporary": 0}
    one["collectives"] = {"all-reduce": [3, 1000]}
    more = {**one, "flops": 1019, "bytes": 1099}
    assert program_figures.excess(more, one) == []
    for key, value in (("flops", 1021), ("bytes", 1101), ("temporary", 1)):
        (line,) = program_figures.excess({**one, key: value}, one)
        assert line.startswith(key)
    for sent in ({"all-reduce": [4, 1000]}, {"all-reduce": [3, 1021]}):
        assert program_figures.excess({**one, "collectives": sent}, one)
    other = {**one["collectives"], "all-gather": [1, 1]}
    (line,) = program_figures.excess({**one, "collectives": other}, one)
    assert line == "all-gather: 1 of 1 bytes, recorded 0 of 0"
    assert program_figures.excess({**one, "collectives": {}}, one) == []
