"""WeatherBench on miniature yearly NetCDF files."""

import pickle

import numpy as np
import pytest

from stjax.data.sources import open_source
from stjax.errors import UserError

xr = pytest.importorskip("xarray")

RNG = np.random.default_rng(0)
HOURS = 50  # in each miniature year
YEARS = range(2014, 2019)


def write(root, folder, name, level=None):
    values = {}
    (root / folder).mkdir()
    for year in YEARS:
        # The last hours of a year, so that a window can cross New Year.
        start = np.datetime64(f"{year + 1}-01-01T00") - np.timedelta64(HOURS, "h")
        if year == 2018:
            start = np.datetime64("2018-01-01T00")
        time = (start + np.arange(HOURS).astype("timedelta64[h]")).astype("M8[ns]")
        if year == 2015:  # a year that follows 2014 without a gap
            time = (np.datetime64("2015-01-01T00") + np.arange(HOURS)).astype("M8[ns]")
        shape = (HOURS, 4, 8) if level is None else (HOURS, len(level), 4, 8)
        data = RNG.normal(200 + year, 3, shape).astype(np.float32)
        dims = (
            ("time", "lat", "lon") if level is None else ("time", "level", "lat", "lon")
        )
        coords = {"time": time} | ({} if level is None else {"level": level})
        dataset = xr.Dataset({name: (dims, data, {"units": "K"})}, coords)
        dataset.to_netcdf(
            root / folder / f"{folder}_{year}_5.625deg.nc", engine="h5netcdf"
        )
        values[year] = data
    return values


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("weather")
    return root, {
        "t2m": write(root, "2m_temperature", "t2m"),
        "t": write(root, "temperature", "t", [50, 500, 850, 1000]),
    }


YEAR_FIELDS = {
    "train_years": (2014, 2015),
    "validation_years": (2016, 2016),
    "test_years": (2017, 2018),
}


def source(data, split="train", **fields):
    return open_source(
        "weatherbench",
        split,
        path=data[0],
        **{**YEAR_FIELDS, "t_in": 3, "t_out": 2, **fields},
    )


def test_clips_and_statistics(data):
    t2m = data[1]["t2m"]
    train = source(data)
    values = np.concatenate([t2m[2014], t2m[2015]])
    # OpenSTL: 99 of the 100 hours, and range(2, 99 - 2 - 1) valid "now"s.
    assert len(train) == len(range(2, 99 - 2 - 1))
    np.testing.assert_allclose(train.spec.offset, values.mean(dtype=float), rtol=1e-6)
    np.testing.assert_allclose(train.spec.scale, values.std(dtype=float), rtol=1e-6)
    assert (train.spec.units, train.spec.metric_space) == ("K", "raw")
    clip = train.clip(48, RNG)  # across New Year
    np.testing.assert_array_equal(clip["input"][..., 0], values[48:51])
    np.testing.assert_array_equal(clip["target"][..., 0], values[51:53])
    validation = pickle.loads(pickle.dumps(source(data, "validation")))
    assert validation.spec == train.spec
    np.testing.assert_array_equal(
        validation.clip(7, RNG)["input"][0, ..., 0], t2m[2016][7]
    )
    own = source(data, "validation", normalise="per_split").spec
    np.testing.assert_allclose(own.offset, t2m[2016].mean(dtype=float), rtol=1e-6)


def test_no_clip_crosses_a_gap(data):
    test = source(data, "test")  # the end of 2017 and the beginning of 2018 touch
    assert len(test) == len(range(2, 99 - 2 - 1))
    gap = source(data, test_years=(2016, 2018), split="test")
    # 2016 stands alone: 46 clips; then 95 of 2017-2018, less OpenSTL's two.
    assert len(gap) == 46 + 96 - 2


def test_levels_and_several_variables(data):
    t, t2m = data[1]["t"], data[1]["t2m"]
    last = source(data, variables="t")
    assert last.spec.channels == ("t_1000",)
    both = source(
        data, variables=["t", "t2m"], levels=[850, 500], target_variables=["t2m"]
    )
    assert both.spec.channels == ("t_850", "t_500", "t2m")
    clip = both.clip(5, RNG)
    np.testing.assert_array_equal(clip["input"][..., 1], t[2014][5:8, 1])
    np.testing.assert_array_equal(clip["target"][..., 0], t2m[2014][8:10])
    with pytest.raises(UserError, match="has no 700; it has"):
        source(data, variables=["t"], levels=[700])


def test_hours_and_offsets(data):
    t2m = data[1]["t2m"]
    values = np.concatenate([t2m[2014], t2m[2015]])
    # The several-variable protocol in small: every 2 h, frames 0, 5, 6 | 7, 13.
    wide = source(data, hours=2, offsets=(-6, -1, 0, 1, 7))
    clip = wide.clip(4, RNG)
    start = 4 * 2
    expected = [values[start + 2 * k] for k in (0, 5, 6, 7, 13)]
    np.testing.assert_array_equal(clip["input"][..., 0], expected[:3])
    np.testing.assert_array_equal(clip["target"][..., 0], expected[3:])
    # values[:-1:2] has 50 frames.
    assert len(wide) == len(range(6, 50 - 7 - 1))
    with pytest.raises(UserError, match="data.offsets"):
        source(data, offsets=(0, 1))


def test_bad_input(data, tmp_path):
    with pytest.raises(UserError, match="2013"):
        source(data, train_years=(2013, 2015))
    with pytest.raises(UserError, match="10m_u_component_of_wind"):
        source(data, variables=["u10"])
    with pytest.raises(UserError, match="did you mean 't2m'"):
        source(data, variables=["t2"])
    with pytest.raises(UserError, match="no clip"):
        source(data, t_in=90, t_out=90)
