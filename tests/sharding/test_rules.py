"""The FSDP rule."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from stjax.sharding.mesh import make_mesh
from stjax.sharding.rules import parameter_shardings, parameter_spec


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((3, 3, 128, 512), P(None, None, None, "fsdp")),
        ((512, 512), P(None, "fsdp")),  # equal: the last
        ((3, 3, 514, 258), P()),  # 4 divides neither
        ((3, 3, 516, 1026), P(None, None, "fsdp", None)),
        ((512,), P()),  # small
        ((21, 21, 1, 512), P()),  # depthwise
    ],
)
def test_largest_divisible_dimension(shape, expected):
    assert parameter_spec(shape, make_mesh(data=2, fsdp=4)) == expected
    assert parameter_spec(shape, make_mesh(data=8)) == P()


def test_a_device_holds_its_part():
    mesh = make_mesh(data=2, fsdp=4)
    tree = {"a": jax.ShapeDtypeStruct((512, 512), np.float32)}
    shardings = parameter_shardings(tree, mesh)
    array = jax.jit(
        lambda: {"a": np.ones((512, 512), np.float32)}, out_shardings=shardings
    )()
    assert array["a"].addressable_shards[0].data.shape == (512, 128)
