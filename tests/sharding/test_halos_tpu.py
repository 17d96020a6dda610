"""What the TPU compiler makes of split rows: halos, and no map gathered.

It splits another program than XLA:CPU does: convolutions in time are 2-D there, and
reshapes are merged before, which may merge rows with frames.
"""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
from jax.experimental import topologies

from stjax import aot
from stjax.aot import hlo, targets
from stjax.aot.programs import compiled
from stjax.sharding.mesh import make_mesh

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
from sharding_cases import CASES, Problem

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed; pip install stjax[aot]",
)


@pytest.mark.parametrize(
    "name, rows", [("tau", 64), ("uniformer_s", 128), ("i3d_r50 non-local", 256)]
)
def test_no_map_is_gathered(name, rows):
    chips = targets.devices(aot.parse_topology("v5e:2x4"))
    mesh = make_mesh(2, 1, 4, devices=chips)
    case = CASES[name]
    case = dataclasses.replace(case, spec=dataclasses.replace(case.spec, height=rows))
    found = hlo.collectives(compiled(Problem(case).lowered(mesh)))
    # Gradients of UniFormer's biases, 48 numbers a block; the smallest map is 2 kB.
    assert found.get("all-gather", (0, 0))[1] < 1000
    assert found["collective-permute"][0] > 0


def test_only_data_goes_across_slices():
    targets.devices(aot.parse_topology("v5e:2x2"))  # prepares the library
    chips = topologies.get_topology_desc(
        platform="tpu", topology_name="v5e:2x2", num_slices=2
    ).devices
    mesh = make_mesh(4, 1, 2, devices=chips)
    slices = [[chip.slice_index for chip in row.flat] for row in mesh.devices]
    assert slices in (
        [[0, 0], [0, 0], [1, 1], [1, 1]],
        [[1, 1], [1, 1], [0, 0], [0, 0]],
    )
