"""SEVIR on miniature nowcast and event files."""

import csv
import pickle

import numpy as np
import pytest

from stjax.data.sources import open_source
from stjax.errors import UserError

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("names", [("IN", "OUT"), ("IN_vil", "OUT_vil")])
def test_nowcast_files(tmp_path, names):
    (tmp_path / "processed").mkdir()
    data = {}
    for part, n in (("training", 40), ("testing", 6)):
        with h5py.File(tmp_path / "processed" / f"vil_{part}.h5", "w") as file:
            for name, frames in zip(names, (13, 12), strict=True):
                data[part, frames] = RNG.integers(0, 256, (n, 8, 8, frames), np.uint8)
                file[name] = data[part, frames]
    splits = ("train", "validation", "test")
    sources = [open_source("sevir", s, path=tmp_path, holdout=0.25) for s in splits]
    assert [len(s) for s in sources] == [28, 10, 6]  # an event gives up to 3 clips
    clip = pickle.loads(pickle.dumps(sources[1])).clip(2, RNG)
    expected = np.moveaxis(data["training", 13][32], -1, 0)
    np.testing.assert_array_equal(clip["input"][..., 0], expected)
    assert clip["target"].shape == (12, 8, 8, 1) == sources[1].spec.target_shape
    spec = sources[0].spec
    assert (spec.offset, spec.scale, spec.metric_space) == ((33.44,), (47.54,), "raw")
    sources = [open_source("sevir", s, path=tmp_path, holdout=0) for s in splits]
    assert [len(s) for s in sources] == [40, 6, 6]
    with pytest.raises(UserError, match="13 input and 12 target"):
        open_source("sevir", path=tmp_path, t_in=10)


def test_events(tmp_path):
    (tmp_path / "data" / "vil" / "2019").mkdir(parents=True)
    name = "vil/2019/SEVIR_VIL_STORMEVENTS_2019_0101_0630.h5"
    video = RNG.integers(0, 256, (4, 16, 16, 49), np.uint8)
    with h5py.File(tmp_path / "data" / name, "w") as file:
        file["vil"] = video
    times = ["2018-12-31 23:00:00", "2019-07-01 00:00:00", "2019-01-01 00:00:00",
             "2018-05-05 00:00:00"]  # fmt: skip
    with open(tmp_path / "CATALOG.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "file_name", "file_index", "img_type", "time_utc"])
        for k, time in enumerate(times):
            rows.writerow([f"S{k}", name, k, "vil", time])
            rows.writerow([f"S{k}", name.replace("vil", "vis"), k, "vis", time])
    splits = ("train", "validation", "test")
    sources = [open_source("sevir", s, path=tmp_path) for s in splits]
    assert [len(s) for s in sources] == [6, 3, 3]  # 49 frames: 3 windows of 25
    clip = sources[0].clip(4, RNG)  # the second event in time, its second window
    np.testing.assert_array_equal(
        clip["input"][..., 0], np.moveaxis(video[0, ..., 12:25], -1, 0)
    )
    np.testing.assert_array_equal(
        clip["target"][..., 0], np.moveaxis(video[0, ..., 25:37], -1, 0)
    )
    small = open_source("sevir", path=tmp_path, size=(8, 8))
    assert small.clip(0, RNG)["input"].shape == (13, 8, 8, 1)


def test_bad_input(tmp_path):
    with pytest.raises(UserError, match=r"vil_training\.h5 does not exist"):
        open_source("sevir", path=tmp_path)
    (tmp_path / "processed").mkdir()
    (tmp_path / "processed" / "vil_training.h5").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot read .*vil_training\.h5"):
        open_source("sevir", path=tmp_path)
