"""KITTI-Caltech on miniature .hkl, .seq and .npy files."""

import io
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from stjax.data.sources import open_source
from stjax.errors import UserError

h5py = pytest.importorskip("h5py")

RNG = np.random.default_rng(0)
LENGTHS = {"train": [25, 10, 11, 30], "val": [23]}


def frames(n):
    data = np.zeros((n, 128, 160, 3), np.uint8)
    data += np.arange(n, dtype=np.uint8)[:, None, None, None]
    data[..., 2] += 100
    return data


def names(lengths):
    return [f"city-2011_{k}" for k, n in enumerate(lengths) for _ in range(n)]


def hickle_5(path, value):
    hickle = pytest.importorskip("hickle")
    hickle.dump(value, str(path), mode="w")


def hickle_2(path, value):
    """As hickle 2 lays it out: data_0, and a group of data_k for a list."""
    with h5py.File(path, "w") as file:
        file.attrs["CLASS"], file.attrs["VERSION"] = b"hickle", b"2.0.4"
        if isinstance(value, np.ndarray):
            file["data_0"] = value
            file["data_0"].attrs["type"] = [b"ndarray"]
        else:
            group = file.create_group("data_0")
            group.attrs["type"] = [b"list"]
            for k, word in enumerate(value):
                group[f"data_{k}"] = np.bytes_(word)


def hickle_1(path, value):
    with h5py.File(path, "w") as file:
        file["data"] = value if isinstance(value, np.ndarray) else np.bytes_(value)
        file["type"] = [b"ndarray" if isinstance(value, np.ndarray) else b"list"]


def write_seq(path, n, gap):
    """A Norpix video of n grey jpgs whose brightness tells the frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<I", 0xFEED) + b"Norpix seq".ljust(24, b"\0"))
        file.write(bytes(1024 - 28))
        for k in range(n):
            jpg = io.BytesIO()
            Image.new("RGB", (640, 480), (2 * k, 0, 200)).save(jpg, "JPEG")
            jpg = jpg.getvalue()
            file.write(struct.pack("<I", len(jpg) + 4) + jpg + bytes(gap))


@pytest.mark.parametrize("dump", [hickle_1, hickle_2, hickle_5])
def test_kitti(tmp_path, dump):
    (tmp_path / "kitti_hkl").mkdir()
    data = frames(sum(LENGTHS["train"]))
    dump(tmp_path / "kitti_hkl" / "X_train.hkl", data)
    dump(tmp_path / "kitti_hkl" / "sources_train.hkl", names(LENGTHS["train"]))
    published = open_source("kitti_caltech", path=tmp_path, holdout=0)
    # Windows of 11 from the end of 25, 10, 11 and 30 frames: 2 + 0 + 1 + 2.
    starts = [3, 14, 35, 46 + 8, 46 + 19]
    published = pickle.loads(pickle.dumps(published))
    got = [int(published.clip(k, RNG)["input"][0, 0, 0, 0]) for k in range(5)]
    assert got == starts and len(published) == 5
    clip = published.clip(1, RNG)
    np.testing.assert_array_equal(clip["target"], data[24:25])
    assert published.spec.input_shape == (10, 128, 160, 3)
    splits = ("train", "validation")
    held = [open_source("kitti_caltech", s, path=tmp_path, holdout=1) for s in splits]
    assert [len(s) for s in held] == [3, 2]
    dump(tmp_path / "kitti_hkl" / "X_val.hkl", frames(23))
    dump(tmp_path / "kitti_hkl" / "sources_val.hkl", names(LENGTHS["val"]))
    held = [open_source("kitti_caltech", s, path=tmp_path) for s in splits]
    assert [len(s) for s in held] == [5, 2]


def test_caltech(tmp_path):
    (tmp_path / "kitti_hkl").mkdir()
    write_seq(tmp_path / "caltech" / "set06" / "V000.seq", 77, gap=16)
    write_seq(tmp_path / "caltech" / "set06" / "V001.seq", 40, gap=8)
    test = open_source("kitti_caltech", "test", path=tmp_path)
    # 25 and 13 frames after taking every third: 2 windows and 1.
    assert len(test) == 3
    clip = pickle.loads(pickle.dumps(test)).clip(0, RNG)
    video = np.concatenate([clip["input"], clip["target"]]).astype(int)
    assert video.shape == (11, 128, 160, 3)
    # The windows end with frame 24 of 25: they begin at 3 and 14; frame k is 3 k + 2.
    expected = 2 * (3 * np.arange(3, 14) + 2)
    assert abs(video[:, 60, 80, 0] - expected).max() <= 2
    assert (video[..., 2] > 190).all()  # blue stays blue
    swapped = open_source("kitti_caltech", "test", path=tmp_path, bgr=True)
    np.testing.assert_array_equal(
        swapped.clip(0, RNG)["target"], clip["target"][..., ::-1]
    )
    selected = open_source("kitti_caltech", "validation", path=tmp_path, holdout=0)
    assert len(selected) == 3


def test_the_cache_of_openstl_and_the_npy_files(tmp_path):
    (tmp_path / "a" / "kitti_hkl").mkdir(parents=True)
    (tmp_path / "a" / "caltech").mkdir()
    np.save(tmp_path / "a" / "caltech" / "data_cache.npy", frames(30))
    np.save(tmp_path / "a" / "caltech" / "indices_cache.npy", np.array([19, 8], "i4"))
    test = open_source("kitti_caltech", "test", path=tmp_path / "a")
    rgb = frames(30)[18:19, ..., ::-1]  # the cache is bgr
    np.testing.assert_array_equal(test.clip(1, RNG)["target"], rgb)
    folder = tmp_path / "b" / "kitticaltech_npy"
    folder.mkdir(parents=True)
    for part in ("train", "test"):
        np.save(folder / f"{part}_data.npy", (frames(30) / 255).astype(np.float32))
        np.save(folder / f"{part}_idx.npy", np.arange(0, 20, 2))
    splits = ("train", "validation", "test")
    sources = [open_source("kitti_caltech", s, path=tmp_path / "b") for s in splits]
    assert [len(s) for s in sources] == [9, 1, 10]
    spec = sources[0].spec
    assert (spec.dtype, spec.scale) == ("float32", (1.0, 1.0, 1.0))
    assert sources[0].clip(1, RNG)["input"].dtype == np.float32


def test_bad_input(tmp_path):
    with pytest.raises(UserError, match="neither kitti_hkl/ nor"):
        open_source("kitti_caltech", path=tmp_path)
    (tmp_path / "kitti_hkl").mkdir()
    with pytest.raises(UserError, match=r"X_train\.hkl does not exist"):
        open_source("kitti_caltech", path=tmp_path)
    (tmp_path / "kitti_hkl" / "X_train.hkl").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot read .*X_train\.hkl"):
        open_source("kitti_caltech", path=tmp_path)
    (tmp_path / "caltech" / "set06").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no"):
        open_source("kitti_caltech", "test", path=tmp_path)
    (tmp_path / "caltech" / "set06" / "V000.seq").write_bytes(b"nothing at all")
    with pytest.raises(UserError, match="not a Norpix"):
        open_source("kitti_caltech", "test", path=tmp_path)
