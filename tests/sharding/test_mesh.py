import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from stjax.errors import UserError
from stjax.sharding.mesh import _arranged, batch_sharding, make_mesh, put_batch


def test_data_takes_what_is_left():
    mesh = make_mesh(fsdp=2, space=2)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "space": 2}
    assert set(mesh.axis_types) == {AxisType.Auto}
    # Space is innermost: neighbours in it are neighbours among the devices.
    ids = [device.id for device in mesh.devices[0, 0]]
    assert ids == [jax.devices()[0].id, jax.devices()[1].id]


def test_one_host_may_use_some_of_its_devices():
    assert make_mesh(data=3).size == 3
    assert make_mesh(devices=jax.devices()[:1]).size == 1


@pytest.mark.parametrize(
    "sizes", [{"data": 9}, {"fsdp": 3}, {"fsdp": 0}, {"space": 16}]
)
def test_sizes_that_do_not_fit(sizes):
    with pytest.raises(UserError, match="mesh"):
        make_mesh(**sizes)


def test_batch_lies_on_data_and_space():
    mesh = make_mesh(data=2, fsdp=2, space=2)
    rng = np.random.default_rng(0)
    batch = {
        "input": rng.integers(0, 255, (4, 2, 8, 6, 1), np.uint8),
        "weight": np.ones(4, np.float32),
    }
    batch["views"] = rng.integers(0, 255, (4, 3, 2, 8, 6, 1), np.uint8)
    put = put_batch(mesh, batch)
    assert put["input"].sharding.spec == PartitionSpec(("data", "fsdp"), None, "space")
    assert put["input"].addressable_shards[0].data.shape == (1, 2, 4, 6, 1)
    assert put["views"].addressable_shards[0].data.shape == (1, 3, 2, 4, 6, 1)
    assert put["weight"].sharding.spec == PartitionSpec(("data", "fsdp"))
    for name, array in batch.items():
        np.testing.assert_array_equal(put[name], array)


@pytest.mark.parametrize("shape", [(3, 2, 8, 8, 1), (4, 2, 7, 8, 1)])
def test_batch_that_cannot_be_split(shape):
    with pytest.raises(UserError, match=f"{shape[0]}|{shape[2]}"):
        batch_sharding(make_mesh(data=2, fsdp=2, space=2), shape)


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh asks a TPU chip."""

    id: int
    process_index: int
    slice_index: int
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    num_slices: int = 1


def chips(slices, hosts, each):
    """So many hosts a slice, and chips a host."""
    return [
        Chip(i, i // each, i // (each * hosts)) for i in range(slices * hosts * each)
    ]


@pytest.fixture
def plain_slices(monkeypatch):
    """Chips without coordinates: their order within a slice is that of the list."""

    def arrange(shape, devices, **_):
        return np.array(devices).reshape(shape)

    monkeypatch.setattr("jax._src.mesh_utils.create_device_mesh", arrange)
    monkeypatch.setattr("stjax.sharding.mesh.mesh_utils.create_device_mesh", arrange)


def test_only_data_goes_across_slices(plain_slices):
    devices = chips(slices=2, hosts=2, each=4)[::-1]
    found = _arranged((4, 2, 2), devices)
    slices = np.vectorize(lambda chip: chip.slice_index)(found)
    assert (slices[:2] == slices[0, 0, 0]).all()
    assert (slices[2:] == 1 - slices[0, 0, 0]).all()
    with pytest.raises(UserError, match="multiple of 2"):
        _arranged((1, 8, 2), devices)


def test_a_host_holds_whole_frames(plain_slices):
    devices = chips(slices=1, hosts=4, each=4)
    # As a torus may have it: neighbours of a row are on different hosts.
    mixed = [devices[i] for i in np.arange(16).reshape(4, 4).T.ravel()]
    found = _arranged((2, 2, 4), mixed)
    hosts = np.vectorize(lambda chip: chip.process_index)(found)
    assert (hosts == hosts[..., :1]).all() and len(np.unique(hosts)) == 4
    with pytest.raises(UserError, match="space=8 goes across hosts"):
        _arranged((2, 1, 8), devices)
