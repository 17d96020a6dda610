"""Own data: arrays, image folders and grids become windows, or one clear line."""

import pickle

import numpy as np
import pytest
from PIL import Image

from stjax.data.sources import open_source
from stjax.data.sources.files import Files
from stjax.errors import UserError

RNG = np.random.default_rng(0)


def clip(source, index=0):
    return source.clip(index, RNG)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_long_array_split_by_time(tmp_path):
    frames = np.arange(100, dtype=np.uint8)[:, None, None] * np.ones((1, 5, 7), "u1")
    np.save(tmp_path / "a.npy", frames)
    seen = {}
    for split in ("train", "validation", "test"):
        source = Files(split, path=tmp_path / "a.npy", t_in=3, t_out=2)
        numbers = [
            np.concatenate([clip(source, i)["input"], clip(source, i)["target"]])
            for i in range(len(source))
        ]
        seen[split] = {int(x) for c in numbers for x in c[:, 0, 0, 0]}
        for c in numbers:
            assert (np.diff(c[:, 0, 0, 0].astype(int)) == 1).all()
    assert seen["train"] == set(range(80))
    assert seen["validation"] == set(range(80, 90))
    assert seen["test"] == set(range(90, 100))
    assert source.spec.input_shape == (3, 5, 7, 1)
    assert source.spec.dtype == "uint8" and source.spec.scale == (255.0,)


def test_stride_and_frame_step(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(40.0)[:, None, None] * np.ones((1, 2, 2)))
    source = Files(
        path=tmp_path / "a.npy", t_in=2, t_out=2, stride=4, frame_step=3,
        fractions=(1, 0, 0),
    )  # fmt: skip
    # Windows span 10 frames: they begin at 0, 4, ..., 28.
    assert len(source) == 8
    c = clip(source, 7)
    assert c["input"][:, 0, 0, 0].tolist() == [28, 31]
    assert c["target"][:, 0, 0, 0].tolist() == [34, 37]


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_sequences_split_by_file(tmp_path, compressed):
    data = RNG.random((10, 6, 3, 4, 2)).astype(np.float32)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", clips=data, other=np.zeros(3))
    fields = {"path": tmp_path / "a.npz", "variable": "clips", "t_in": 4, "t_out": 2}
    train, test = Files("train", **fields), Files("test", **fields)
    assert (len(train), len(Files("validation", **fields)), len(test)) == (8, 1, 1)
    np.testing.assert_array_equal(clip(test)["target"], data[9, 4:])
    # The statistics are those of the training sequences, in every split.
    np.testing.assert_allclose(test.spec.offset, data[:8].mean((0, 1, 2, 3)), 1e-6)
    np.testing.assert_allclose(test.spec.scale, data[:8].std((0, 1, 2, 3)), 1e-5)
    with pytest.raises(UserError, match="it has: clips, other") as error:
        Files(path=tmp_path / "a.npz", variable="clip")
    one_line(error)


def test_layout_of_torch_and_of_moving_mnist(tmp_path):
    data = RNG.integers(0, 255, (3, 8, 2, 5, 6), np.uint8)  # N T C H W
    np.save(tmp_path / "torch.npy", data)
    source = Files(
        path=tmp_path / "torch.npy", layout="NTCHW", t_in=2, t_out=1, split_by="file"
    )
    assert source.spec.input_shape == (2, 5, 6, 2)
    np.testing.assert_array_equal(clip(source)["input"][1, ..., 1], data[0, 1, 1])
    with pytest.raises(UserError, match="NTHW"):
        Files(path=tmp_path / "torch.npy", layout="NTHW")


def test_an_array_is_not_read_at_once(tmp_path):
    # A sparse file of 32 GiB: it can only be mapped.
    shape = (1 << 15, 1024, 1024)
    np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.uint8, shape)
    source = Files(path=tmp_path / "big.npy", t_in=1, t_out=1, size=(8, 8))
    assert len(pickle.dumps(source)) < 10_000
    assert clip(source, len(source) - 1)["input"].shape == (1, 8, 8, 1)


def test_missing_values_pass_and_do_not_count(tmp_path):
    data = RNG.random((30, 4, 4)).astype(np.float32)
    data[:, 0, 0] = np.nan
    np.save(tmp_path / "a.npy", data)
    source = Files(path=tmp_path / "a.npy", t_in=2, t_out=1)
    assert np.isnan(clip(source)["input"][:, 0, 0]).all()
    np.testing.assert_allclose(source.spec.offset, np.nanmean(data[:24]), 1e-6)


def test_value_range_and_target_channels(tmp_path):
    np.save(tmp_path / "a.npy", RNG.random((30, 4, 6, 3)).astype(np.float32))
    source = Files(
        path=tmp_path / "a.npy", t_in=2, t_out=1, value_range=(-1, 1),
        target_channels=["blue", 0],
    )  # fmt: skip
    assert source.spec.offset == (-1,) * 3 and source.spec.scale == (2,) * 3
    c = clip(source)
    whole = Files(path=tmp_path / "a.npy", t_in=2, t_out=1)
    np.testing.assert_array_equal(c["target"], clip(whole)["target"][..., [2, 0]])
    assert c["target"].shape == source.spec.target_shape
    with pytest.raises(UserError, match="blue"):
        Files(path=tmp_path / "a.npy", target_channels=["blu"])


def images(folder, n, size=(6, 8), mode="RGB", step=1):
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(0, n, step):
        Image.new(mode, size[::-1], k if mode == "L" else (k, 2 * k, 3 * k)).save(
            folder / f"frame_{k}.png"
        )


def test_folder_of_frames_in_natural_order(tmp_path):
    images(tmp_path, 30)
    source = Files(path=tmp_path, t_in=2, t_out=2)
    assert source.spec.channels == ("red", "green", "blue")
    c = clip(source, 9)
    assert c["target"][:, 0, 0].tolist() == [[11, 22, 33], [12, 24, 36]]
    grey = Files(path=tmp_path, t_in=2, t_out=2, channels="grey")
    with Image.open(tmp_path / "frame_9.png") as image:
        expected = np.asarray(image.convert("L")).astype(int)
    assert abs(clip(grey, 9)["input"][0, ..., 0].astype(int) - expected).max() <= 1


def test_folders_of_frames_are_clips(tmp_path):
    for k in range(10):
        images(tmp_path / f"clip_{k}", 4, mode="L")
    source = Files(path=tmp_path, t_in=3, t_out=1)
    assert len(source) == 8 and source.spec.channels == ("grey",)
    assert clip(source)["target"].shape == (1, 6, 8, 1)


def test_unreadable_frames_are_skipped_only_when_asked(tmp_path):
    images(tmp_path, 20, mode="L")
    (tmp_path / "frame_5.png").write_bytes(b"not a picture")
    fields = {"path": tmp_path, "t_in": 2, "t_out": 1, "fractions": (1, 0, 0)}
    with pytest.raises(UserError, match="frame_5.png") as error:
        Files(**fields)
    one_line(error)
    source = Files(**fields, skip_unreadable=True)
    assert [s.rsplit("/")[-1] for s in source.skipped] == ["frame_5.png"]
    # 0..4 and 6..19 remain, and no window has the hole in it.
    assert len(source) == 3 + 12
    for k in range(len(source)):
        c = clip(source, k)
        numbers = [*c["input"][:, 0, 0, 0], *c["target"][:, 0, 0, 0]]
        assert (np.diff(np.asarray(numbers, int)) == 1).all()


def test_a_frame_that_fails_late_is_an_error_of_its_clip(tmp_path):
    images(tmp_path, 40, mode="L")
    whole = (tmp_path / "frame_5.png").read_bytes()
    (tmp_path / "frame_5.png").write_bytes(whole[:50])  # the header is whole
    source = Files(path=tmp_path, t_in=1, t_out=1)
    with pytest.raises(UserError, match=r"frame_5.png.*data\.bad=replace") as error:
        clip(source, 5)
    one_line(error)
    assert clip(source, 7)["target"][0, 0, 0, 0] == 8


def test_mixed_sizes(tmp_path):
    for k, size in enumerate([(6, 8), (6, 8), (8, 6)]):
        images(tmp_path / str(k), 10, size)
    fields = {"path": tmp_path, "t_in": 2, "t_out": 1, "split_by": "file"}
    with pytest.raises(UserError, match="mixed frame sizes.*6x8.*8x6.*data.size"):
        Files(**fields)
    assert clip(Files(**fields, size=(4, 4)))["input"].shape == (2, 4, 4, 3)
    Image.new("RGB", (3, 3)).save(tmp_path / "0" / "frame_99.png")
    with pytest.raises(UserError, match="mixed frame sizes.*frame_99"):
        Files(**fields, size=(4, 4))


def test_bad_input_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "short.npy", np.zeros((20, 4, 4)))
    (tmp_path / "text.npy").write_text("hello")
    for fields, words in [
        ({"path": "nowhere"}, "does not exist"),
        ({"path": tmp_path / "empty"}, "holds no"),
        ({"path": tmp_path / "short.npy"}, "cannot use .*too short.*needs 20"),
        ({"path": tmp_path / "text.npy"}, "cannot read .*text.npy"),
        ({"path": tmp_path / "short.npy", "format": "vidoe"}, "video"),
        ({"path": tmp_path / "short.npy", "fractions": (1, 1, 0)}, "sum to 1"),
        ({"path": tmp_path / "short.npy", "t_in": 0}, "at least 1"),
        ({"path": tmp_path / "short.npy", "size": (64,)}, "height, width"),
        ({"path": tmp_path / "short.npy", "crop": (2, 2)}, "top, left, height, width"),
        ({"path": tmp_path / "short.npy", "split_by": "day"}, "time"),
    ]:
        with pytest.raises(UserError, match=words) as error:
            Files(**fields)
        one_line(error)
    with pytest.raises(UserError, match="t_in"):
        open_source("files", path=tmp_path, t_inn=3)


def test_grid_with_levels_and_target_variables(tmp_path):
    xr = pytest.importorskip("xarray")
    shape = (40, 2, 3, 5)
    t = RNG.random(shape).astype(np.float32)
    u = RNG.random((40, 3, 5)).astype(np.float32)
    dims = ("time", "level", "lat", "lon")
    data = xr.Dataset(
        {"t": (dims, t, {"units": "K"}), "u": (("time", "lat", "lon"), u)},
        {"level": [500, 850]},
    )
    data.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    data.to_zarr(tmp_path / "a.zarr", zarr_format=2)
    data.to_zarr(tmp_path / "store", consolidated=False)
    for path in (tmp_path / "a.nc", tmp_path / "a.zarr", tmp_path / "store"):
        fields = {"path": path, "variable": "t,u", "t_in": 2, "t_out": 1}
        source = pickle.loads(pickle.dumps(Files(**fields, target_variables=["t"])))
        assert source.spec.channels == ("t_500", "t_850", "u")
        assert source.spec.target_channels == (0, 1)
        one = Files(**fields, levels=[850])
        np.testing.assert_array_equal(clip(one)["input"][..., 0], t[:2, 1])
        assert one.spec.channels == ("t_850", "u")
        c = clip(source, 3)
        np.testing.assert_array_equal(c["input"][..., 1], t[3:5, 1])
        np.testing.assert_array_equal(c["input"][..., 2], u[3:5])
        np.testing.assert_array_equal(c["target"], np.moveaxis(t[5:6], 1, -1))
        np.testing.assert_allclose(source.spec.offset[2], u[:32].mean(), 1e-6)
        with pytest.raises(UserError, match="no variable 'v'; it has: t, u") as error:
            Files(path=path, variable="v")
        one_line(error)
        with pytest.raises(UserError, match=r"set data.variable; it has: t, u"):
            Files(path=path)


def test_the_climate_file(reference):
    xr = pytest.importorskip("xarray")
    path = reference / "data" / "climate" / "A1B_north_america.nc"
    fields = {"path": path, "t_in": 5, "t_out": 5}
    source = open_source("files", split="test", **fields)
    spec = source.spec
    assert spec.input_shape == (5, 37, 49, 1)
    assert spec.channels == ("air_temperature",)
    assert (spec.units, spec.metric_space, spec.dtype) == ("K", "raw", "float32")
    with xr.open_dataset(path, decode_times=False) as data:
        values = data["air_temperature"].values
    # 240 years: 192 train, 24 validate, 24 test.
    np.testing.assert_allclose(spec.offset, values[:192].mean(dtype=float), 1e-6)
    np.testing.assert_allclose(spec.scale, values[:192].std(dtype=float), 1e-6)
    assert len(source) == 24 - 10 + 1
    np.testing.assert_array_equal(clip(source, 2)["target"][..., 0], values[223:228])
