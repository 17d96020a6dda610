"""Sharded equals unsharded, and devices tell each other what they should.

Four representative models; all of them are in experiments/sharding_equality.md.
"""

import sys
from pathlib import Path

import pytest

from stjax.aot.hlo import collectives
from stjax.sharding.mesh import make_mesh

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
from sharding_cases import CASES, MESHES, Problem, measure, rounding

SPACE = "2x1x4"
EXPECTED = {
    "tau": {"all-reduce", "collective-permute"},
    "convlstm": {"all-reduce", "collective-permute"},
    # Heads of the global blocks are re-sharded.
    "uniformer_s": {"all-reduce", "collective-permute", "all-to-all"},
    # Keys of the non-local blocks go in a ring.
    "i3d_r50 non-local": {"all-reduce", "collective-permute"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_mesh_computes_the_same(name):
    rows = measure(CASES[name])
    assert len(rows) == len(MESHES)
    limit = 2e-5
    if max(row["error"] for row in rows.values()) > limit:
        # Max-pooling and ReLU, see there. Twice: who crosses a kink jumps as far as who
        # moved across it, so that the two may be equal. In float64 the same programs
        # agree to 1e-12, see experiments/sharding_float64.py.
        limit = 2 * rounding(CASES[name])
    for mesh, row in rows.items():
        assert row["error"] < limit, mesh
    assert set(rows[SPACE]["collectives"]) == EXPECTED[name]
    assert set(rows["8x1x1"]["collectives"]) == {"all-reduce"}
    # Parameters are gathered; activations stay where their clips are.
    assert set(rows["2x4x1"]["collectives"]) == {"all-reduce", "all-gather"}


@pytest.mark.parametrize("name", ["simvp", "simvp van"])
def test_large_kernels_need_halos_only(name):
    """gSTA and VAN on 32 latent rows; TAU is above."""
    program = Problem(CASES[name]).compiled(make_mesh(2, 1, 4))
    found = collectives(program)
    assert set(found) == {"all-reduce", "collective-permute"}


def test_few_rows_move_to_the_batch():
    """16 latent rows: what a halo of 9 would gather moves, there and back."""
    program = Problem(CASES["simvp gsta, 16 rows"]).compiled(make_mesh(2, 1, 4))
    found = collectives(program)
    assert "all-gather" not in found
    assert found["all-to-all"][0] == 4  # twice forward, twice back
