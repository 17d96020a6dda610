"""The benchmark of the non-local aggregates, and the output that is recorded."""

import json
import sys
from pathlib import Path

import pytest

from stjax.ops.pairwise import IMPLS

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "benchmarks"))
import non_local

FOLDER = Path(non_local.__file__).parent


def test_rows_and_table():
    rows = [
        non_local.measure("dot_product", impl, "tiny", 2, 4.0)
        for impl in ("dense", "linear")
    ]
    rows.append(non_local.measure("concatenation", "dense", "tiny", 2, 0.0))
    assert rows[0]["seconds"] > 0 and rows[2]["seconds"] is None
    for row in rows:  # XLA also counts the loss and what is added element by element
        assert row["xla_operations"] == pytest.approx(row["operations"], rel=0.15)
    # 32 queries, 8 keys: theta phi^T is 256 numbers, phi^T g 256 x 256.
    assert rows[1]["largest_array"] == 256 * 256
    table = non_local.markdown(non_local.machine(), rows)
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 3 and lines[-1].endswith("| compiled only |")
    assert len({line.count("|") for line in lines}) == 1


def recorded():
    rows = json.loads((FOLDER / "non_local.json").read_text())["rows"]
    return {(row["pairwise"], row["frames"], row["impl"]): row for row in rows}


def test_the_record_is_complete():
    rows = recorded()
    assert set(rows) == {
        (pairwise, frames, impl)
        for pairwise, impls in non_local.FORMS.items()
        for frames in ("8", "32", "128")
        for impl in impls
    }
    for (pairwise, frames, impl), row in rows.items():
        assert impl in IMPLS[pairwise]
        shape = non_local.sizes(frames, pairwise)
        assert row["operations"] == non_local.operations(pairwise, impl, *shape)
        if row["xla_operations"] is not None and row["pairs"] > 10**6:
            ratio = row["xla_operations"] / row["operations"]
            assert 0.9 < ratio < 1.3, (pairwise, frames, impl)


@pytest.mark.parametrize("pairwise", non_local.FORMS)
def test_128_frames_without_an_array_of_all_pairs(pairwise):
    rows = {
        key[2]: row for key, row in recorded().items() if key[:2] == (pairwise, "128")
    }
    dense = rows.pop("dense")
    assert dense["pairs"] == 12544 * 3136 <= dense["largest_array"]
    for row in rows.values():
        assert row["largest_array"] < dense["pairs"] / 5
        assert row["temporary_bytes"] < dense["temporary_bytes"] / 5
        assert row["seconds"] is not None
    if pairwise in ("dot_product", "concatenation"):
        least = min(row["operations"] for row in rows.values())
        assert dense["operations"] > 5 * least
