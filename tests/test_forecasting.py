"""What forecasters need, with nothing but config values: scores, lengths, grids."""

import json

import numpy as np
import pytest

import stjax
from stjax import gridfiles
from stjax.cli import running
from stjax.config import load_config
from stjax.data.sources import open_source
from stjax.errors import UserError
from stjax.scoring import create_metrics, error_of, metric_specs
from stjax.training import inputs

xr = pytest.importorskip("xarray")

LATITUDE = np.linspace(60, 30, 6).astype(np.float32)
RNG = np.random.default_rng(0)


def weather(frames=40):
    """Two variables that move over a 6x10 grid, in kelvin and Pa, and a constant."""
    t = np.arange(frames)[:, None, None]
    wave = np.sin(t / 3 + np.arange(10) / 2 + np.arange(6)[:, None] / 3)
    fields = {
        "t2m": (280 + 5 * wave + RNG.normal(0, 0.5, wave.shape), "K"),
        "msl": (1e5 + 500 * np.cos(t / 3) * wave, "Pa"),
        "orography": (np.broadcast_to(np.arange(60.0).reshape(6, 10), wave.shape), "m"),
    }
    dims = ("time", "latitude", "longitude")
    return xr.Dataset(
        {
            k: (dims, v.astype(np.float32), {"units": unit})
            for k, (v, unit) in fields.items()
        },
        {
            "time": ("time", 24.0 * np.arange(frames), {
                "units": "hours since 2001-02-01", "calendar": "360_day"}),
            "latitude": ("latitude", LATITUDE, {"units": "degrees_north"}),
            "longitude": ("longitude", np.arange(10.0), {"units": "degrees_east"}),
        },
    )  # fmt: skip


def tiny(path, model="simvp", **data):
    config = load_config("tau/own_data:miniature")
    with config.unlocked():
        config.data.update(path=str(path), stride=1, **data)
        config.metrics = ("mse",)
        config.train.update(steps=1, eval_every=1)
        config.loss = {"name": "mse"}
        if model == "simvp":  # the translator that compiles soonest
            fields = {"translator": "poolformer", "n_s": 2, "hid_s": 2, "hid_t": 4}
            config.model = {"name": model, "pad_sides": True, "n_t": 2, **fields}
        else:
            fields = {"num_hidden": (2,), "filter_size": 3, "patch_size": 2}
            config.model = {"name": model, "pad_sides": True, **fields}
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of t2m from three variables, 3 frames in and 5 out, and its results."""
    folder = tmp_path_factory.mktemp("weather")
    weather().to_netcdf(folder / "weather.nc", engine="h5netcdf")
    config = tiny(
        folder / "weather.nc",
        t_in=3,
        t_out=5,
        variable="t2m,msl,orography",
        target_variables=("t2m",),
        fractions=(0.5, 0.25, 0.25),
    )
    config.metrics = (
        "csi:threshold=281,rmse_mean",
        "acc,rmse_latitude",
        "fss:threshold=281,window=3",
    )
    workdir = folder / "run"
    return config, workdir, stjax.train(config, workdir)


def test_scores_in_raw_units_by_lead_time(run):
    config, _, results = run
    t2m = weather_of(config)["t2m"].values.astype(np.float64)
    names = ["csi:threshold=281", "rmse_mean", "acc", "rmse_latitude"]
    names.append("fss:threshold=281,window=3")
    assert list(results["metrics"]) == names
    assert all(len(results["per_frame"][name]) == 5 for name in names)
    starts = range(30, 33)  # 3 + 5 frames within the last quarter of 40
    last = np.stack([np.repeat(t2m[s + 2 : s + 3], 5, 0) for s in starts])
    truth = np.stack([t2m[s + 3 : s + 8] for s in starts])
    found = results["baselines"]["last_frame"]
    # Critical success index and latitude-weighted RMSE by their definitions.
    forecast, event = last >= 281, truth >= 281
    csi = (forecast & event).sum() / (forecast | event).sum()
    np.testing.assert_allclose(found["csi:threshold=281"], csi, rtol=1e-6)
    weight = np.cos(np.deg2rad(LATITUDE))[:, None]
    weight = weight / weight.mean()
    rmse = np.sqrt((weight * (last - truth) ** 2).mean())
    np.testing.assert_allclose(found["rmse_latitude"], rmse, rtol=1e-4)
    usual = t2m[:20].mean(0)  # the training half

    def anomaly(x):
        x = x - usual
        return x - (weight * x).sum((-2, -1), keepdims=True) / (weight.sum() * 10)

    a, b = anomaly(last), anomaly(truth)
    sums = [(weight * p).sum((-2, -1)) for p in (a * b, a * a, b * b)]
    acc = (sums[0] / np.sqrt(sums[1] * sums[2])).mean()
    np.testing.assert_allclose(found["acc"], acc, rtol=1e-4)
    curve = results["baselines_per_frame"]["last_frame"]["rmse_mean"]
    expected = np.sqrt(((last - truth) ** 2).mean((0, 2, 3)))
    np.testing.assert_allclose(curve, expected, rtol=1e-4)


def weather_of(config):
    return xr.open_dataset(config.data.path, decode_times=False)


def test_the_first_metric_with_a_direction_selects(run, capsys):
    config, workdir, _ = run
    source = inputs.open_split(config, "train")
    metrics = create_metrics(("bias:threshold=281", *config.metrics), source)
    values = {"csi:threshold=281": 0.25, "rmse_mean": 3.0}
    assert error_of(metrics, values) == -0.25  # the greater the better
    assert error_of({"rmse_mean": metrics["rmse_mean"]}, values) == 3.0
    with pytest.raises(UserError, match="none of them tells which"):
        create_metrics(("bias:threshold=281",), source)
    again = stjax.evaluate(workdir, metrics=["pod:threshold=280"])
    assert list(again["metrics"]) == ["pod:threshold=280"]
    running.evaluate(workdir=str(workdir), metrics="pod:threshold=280")
    table = capsys.readouterr().out.splitlines()[1:]
    assert table[0].strip() == "pod:threshold=280"
    shown = float(table[1].removeprefix("model"))
    assert shown == pytest.approx(again["metrics"]["pod:threshold=280"], rel=1e-4)


def test_weatherbench_has_latitude_and_climatology(tmp_path):
    folder = tmp_path / "2m_temperature"
    folder.mkdir()
    values = RNG.normal(280, 5, (3, 20, 6, 10)).astype(np.float32)
    for year, field in zip((2015, 2016, 2017), values, strict=True):
        hours = np.datetime64(f"{year}-01-01T00", "ns") + np.arange(20) * 3600 * 10**9
        coords = {"time": hours, "lat": LATITUDE, "lon": np.arange(10.0)}
        dataset = xr.Dataset({"t2m": (("time", "lat", "lon"), field)}, coords)
        path = folder / f"2m_temperature_{year}_5.625deg.nc"
        dataset.to_netcdf(path, engine="h5netcdf")
    years = {"train_years": (2015, 2016), "validation_years": (2016, 2016)}
    source = open_source(
        "weatherbench", "test", path=str(tmp_path), test_years=(2017, 2017),
        t_in=2, t_out=2, normalise="per_split", **years,
    )  # fmt: skip
    np.testing.assert_array_equal(source.latitude, LATITUDE)
    expected = values[:2].mean((0, 1), dtype=np.float64)[None, ..., None]
    np.testing.assert_allclose(source.climatology, expected, rtol=1e-6)
    assert create_metrics(("acc,rmse_latitude",), source).keys() == {
        "acc",
        "rmse_latitude",
    }


def test_several_metrics_in_one_text(run):
    spec = inputs.open_split(run[0], "train").spec
    texts = ("mse,fss:threshold=0.5,window=9", "csi:threshold=1")
    expected = ("mse", "fss:threshold=0.5,window=9", "csi:threshold=1")
    assert metric_specs(texts, spec) == expected
    assert metric_specs((), spec) == ("mse_mean", "mae_mean", "rmse_mean")


def test_what_a_metric_lacks_is_said_before_training(tmp_path):
    np.save(tmp_path / "film.npy", RNG.integers(0, 256, (60, 8, 8), np.uint8))
    config = tiny(tmp_path / "film.npy")
    for metric, text in [
        ("rmse_latitude", "needs the latitude"),
        ("acu", "unknown metric 'acu'; did you mean 'acc'"),
        ("csi", "needs threshold"),
        ("fss:threshold=0.5,window=0", "window of 1 or more"),
        ("lpips:weights=nothing.npz", "8x8 with 1"),
    ]:
        config.metrics = (metric,)
        with pytest.raises(UserError, match=text):
            stjax.train(config, tmp_path / "run")
    config.metrics, config.baselines = (), ("lagrange",)
    with pytest.raises(UserError, match="did you mean 'lagrangian'"):
        stjax.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lagrangian_persistence_is_a_row(run):
    pytest.importorskip("pysteps")
    config, workdir, _ = run
    metrics = ["rmse_mean", "csi:threshold=281"]
    method = "lagrangian:method=proesmans"
    found = stjax.evaluate(workdir, metrics=metrics, baselines=[method])
    row = found["baselines"]["lagrangian_persistence"]
    assert row.keys() == set(metrics) and np.isfinite(row["rmse_mean"])
    # In the units of the data: nothing is far from what was there.
    assert 0 < row["rmse_mean"] < 10
    config = config.copy_and_resolve_references()
    config.baselines, config.data.t_in = (method,), 1
    with pytest.raises(UserError, match="2 or more input frames .* data.t_in is 1"):
        stjax.train(config, workdir.parent / "other")


def test_augmentation_changes_training_clips_only(tmp_path):
    np.save(tmp_path / "film.npy", RNG.integers(0, 256, (60, 8, 8), np.uint8))
    config = tiny(tmp_path / "film.npy")
    source = inputs.open_split(config, "train")

    def first(config, train):
        return inputs.make_dataset(config, source, train=train)[0]["input"]

    plain = {train: first(config, train) for train in (True, False)}
    config.data.augment.update(flip="horizontal", crop=0.8)
    np.testing.assert_array_equal(first(config, False), plain[False])
    assert (first(config, True) != plain[True]).any()
    config.data.augment.crop = 1.0
    for clip, before in zip(first(config, True), plain[True], strict=True):
        flipped = before[:, :, ::-1]
        assert (clip == before).all() or (clip == flipped).all()
    with config.unlocked():
        config.data.augment.flop = 1
    with pytest.raises(UserError, match="did you mean 'flip'"):
        first(config, True)


# --- lengths, channels and sides


@pytest.mark.parametrize(
    "model, t_in, t_out, shot",
    [
        ("simvp", 2, 4, 4),  # in one shot
        ("simvp", 2, 3, None),  # by recursion
        ("simvp", 4, 2, None),  # the first frames
        ("convlstm", 3, 4, None),
    ],
)
def test_lengths_and_odd_sides(tmp_path, model, t_in, t_out, shot):
    film = RNG.normal(5000, 300, (40, 7, 9, 2)).astype(np.float32)
    np.save(tmp_path / "film.npy", film)
    fields = {"t_in": t_in, "t_out": t_out, "fractions": (0.4, 0.3, 0.3)}
    config = tiny(tmp_path / "film.npy", model, **fields)
    if shot:
        with config.unlocked():
            config.model.t_out = shot
    results = stjax.train(config, tmp_path / "run")
    assert len(results["per_frame"]["mse"]) == t_out
    predictor = stjax.load(tmp_path / "run")
    assert predictor.model.__class__.__name__ in ("SimVP", "ConvLSTM")
    y = predictor(film[:t_in])
    assert y.shape == (1, t_out, 7, 9, 2)
    assert 3000 < y.mean() < 7000  # raw units, though the model sees about 0
    assert predictor(film[:t_in], frames=t_out + 2).shape[1] == t_out + 2
    longer = predictor(film[: t_in + 3])
    if model == "simvp":  # exactly T_in frames: the last ones
        np.testing.assert_array_equal(longer, predictor(film[3 : t_in + 3]))
        with pytest.raises(UserError, match=f"1 frames, the model takes {t_in}"):
            predictor(film[:1])
    else:  # as many as there are
        assert (longer != predictor(film[3 : t_in + 3])).any()
        assert predictor(film[:1]).shape[1] == t_out


def test_fewer_channels_out_than_in(run):
    config, workdir, results = run
    predictor = stjax.load(workdir)
    assert predictor.spec.target_channels == (0,)
    assert predictor.model.out_channels == 1
    assert predictor.model.t_out == 5  # it cannot feed back what it predicts
    x = np.stack([v.values for v in weather_of(config).data_vars.values()], -1)
    y = predictor(x[:3])
    assert y.shape == (1, 5, 6, 10, 1) and 200 < y.mean() < 360
    with pytest.raises(UserError, match="at most 5 frames or set model.t_out=7"):
        predictor(x[:3], frames=7)


# --- grids in, grids out


def test_data_array_with_batch_and_channels_in_any_order(run):
    config, workdir, _ = run
    predictor = stjax.load(workdir)
    names = ["t2m", "msl", "orography"]
    x = weather_of(config)[names].isel(time=slice(0, 3)).to_dataarray("channel")
    x = x.transpose("time", "latitude", "longitude", "channel")
    both = xr.concat([x, x + 1], "run").transpose("run", *x.dims)
    y = predictor(both)
    assert y.dims == ("run", "lead_time", "latitude", "longitude", "channel")
    assert y.channel.values.tolist() == ["t2m"]
    np.testing.assert_array_equal(y.latitude, LATITUDE)
    np.testing.assert_allclose(y[0], predictor(x), rtol=1e-6)
    np.testing.assert_array_equal(predictor(x.isel(channel=[2, 0, 1])), predictor(x))
    np.testing.assert_array_equal(y.lead_time, 24.0 * np.arange(1, 6))
    assert y.lead_time.attrs == {"units": "hours"}
    assert y.valid_time.attrs["calendar"] == "360_day"


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_files_of_grids_round_trip(run, tmp_path, suffix):
    config, workdir, _ = run
    source = str(tmp_path / f"new{suffix}")
    dataset = weather_of(config).isel(time=slice(0, 20)).load()
    gridfiles.write_grid(dataset, source)
    predictor = stjax.load(workdir)
    out = gridfiles.predict_grid(predictor, source, str(tmp_path / "out"))
    assert out == str(tmp_path / "out" / f"prediction{suffix}")
    found = gridfiles.open_grid(out).load()
    assert list(found.data_vars) == ["t2m"]  # what is predicted
    assert found["t2m"].dims == ("lead_time", "latitude", "longitude")
    assert found["t2m"].attrs["units"] == "K"
    np.testing.assert_array_equal(found["latitude"], LATITUDE)
    np.testing.assert_array_equal(found["longitude"], dataset["longitude"])
    np.testing.assert_array_equal(found["lead_time"], 24 * np.arange(1, 6))
    np.testing.assert_array_equal(found["valid_time"], 24 * np.arange(20, 25))
    assert found["valid_time"].attrs["units"] == "hours since 2001-02-01"
    x = np.stack([dataset[k].values[-3:] for k in ("t2m", "msl", "orography")], -1)
    np.testing.assert_allclose(found["t2m"], predictor(x)[0, ..., 0], rtol=1e-6)
    # Frames that lie further apart, and variables by other names.
    gridfiles.write_grid(dataset.rename(t2m="tas"), source)
    names = ["tas", "msl", "orography"]
    out = gridfiles.predict_grid(
        predictor, source, str(tmp_path / "out"), variables=names, step=2
    )
    found = gridfiles.open_grid(out)
    np.testing.assert_array_equal(found["lead_time"], 48 * np.arange(1, 6))
    x = np.stack([dataset[k].values[-5::2] for k in ("t2m", "msl", "orography")], -1)
    np.testing.assert_allclose(found["t2m"], predictor(x)[0, ..., 0], rtol=1e-6)


def test_grids_that_do_not_fit(run, tmp_path):
    config, workdir, _ = run
    predictor = stjax.load(workdir)
    dataset, path = weather_of(config), str(tmp_path / "new.nc")
    bad = [
        (dataset.drop_vars("t2m"), {}, "no variable for the model's channel 't2m'"),
        (dataset, {"variables": ["t2m"]}, "1 channels, the model takes 3"),
        (dataset, {"variables": ["t2n"]}, "has no variable 't2n'"),
        (dataset.isel(time=slice(0, 2)), {}, "has 2 frames, 3 are needed"),
        (dataset, {"step": 20}, "has 40 frames, 41 are needed"),
    ]
    for new, fields, text in bad:
        gridfiles.write_grid(new, path)
        with pytest.raises(UserError, match=text):
            gridfiles.predict_grid(predictor, path, str(tmp_path), **fields)
    (tmp_path / "new.nc").write_bytes(b"no NetCDF at all")
    with pytest.raises(UserError, match="cannot be read"):
        gridfiles.predict_grid(predictor, path, str(tmp_path))


def test_results_json_holds_the_curves(run):
    _, workdir, results = run
    assert json.loads((workdir / "results.json").read_text()) == results


# --- own data with nothing but config values


def own_data(tmp_path, **data):
    """The metrics and all else of the config; a model that compiles soonest."""
    config = load_config("tau/own_data:miniature")
    with config.unlocked():
        config.data.update(**data)
        config.model = tiny("").model
        config.loss = {"name": "mse"}
    return stjax.train(config, tmp_path / "run")


def test_the_real_climate_file(reference, tmp_path):
    path = reference / "data" / "climate" / "A1B_north_america.nc"
    results = own_data(tmp_path, path=str(path))
    assert results["metrics"].keys() == {"mse_mean", "mae_mean", "rmse_mean"}
    still = results["baselines"]["last_frame"]["rmse_mean"]
    assert 0.1 < still < 5  # kelvin from year to year
    predictor = stjax.load(tmp_path / "run")
    out = gridfiles.predict_grid(predictor, str(path), str(tmp_path), frames=3)
    found = gridfiles.open_grid(out)["air_temperature"]
    assert found.shape == (3, 37, 49) and found.attrs["units"] == "K"
    assert found["valid_time"].attrs["calendar"] == "360_day"
    year = 360 * 24
    np.testing.assert_array_equal(found["lead_time"], year * np.arange(1, 4))


def test_the_real_videos(reference, tmp_path):
    path = str(reference / "data" / "videos")
    results = own_data(tmp_path, path=path, size=(16, 24), channels="grey", stride=24)
    assert np.isfinite(results["metrics"]["mse"])
    assert results["metrics"].keys() == {"mse", "mae", "psnr", "ssim", "ssim_range2"}
    with pytest.raises(UserError, match="mixed frame sizes"):
        own_data(tmp_path, path=path)


@pytest.fixture
def wrong(capsys):
    """The line of ``stjax train`` on data that it cannot use."""
    from stjax import cli

    def run(folder, path, *flags):
        capsys.readouterr()
        flags = [f"--config.{flag}" for flag in (f"data.path={path}", *flags)]
        config = "--config=tau/own_data:miniature"
        with pytest.raises(SystemExit) as end:
            cli.main(["stjax", "train", config, f"--workdir={folder / 'run'}", *flags])
        out, err = capsys.readouterr()
        assert end.value.code == 2, err
        assert out == "" and err.count("\n") == 1 and err.startswith("stjax: ")
        assert not (folder / "run").exists()
        return err

    return run


def test_data_that_cannot_be_used(wrong, tmp_path):
    from PIL import Image

    weather().to_netcdf(tmp_path / "w.nc", engine="h5netcdf")
    assert "set data.variable; it has: msl" in wrong(tmp_path, tmp_path / "w.nc")
    flag = "data.variable=t2n"
    assert "has no variable 't2n'" in wrong(tmp_path, tmp_path / "w.nc", flag)
    assert "does not exist" in wrong(tmp_path, tmp_path / "nothing.nc")
    np.save(tmp_path / "short.npy", np.zeros((3, 8, 8), np.uint8))
    assert "too short" in wrong(tmp_path, tmp_path / "short.npy")
    for name, size in (("a", (8, 8)), ("b", (8, 12))):
        (tmp_path / "films").mkdir(exist_ok=True)
        np.save(tmp_path / "films" / name, np.zeros((60, *size), np.uint8))
    assert "mixed frame sizes" in wrong(tmp_path, tmp_path / "films")
    (tmp_path / "frames").mkdir()
    for k in range(60):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"frames/{k}.png")
    whole = (tmp_path / "frames" / "7.png").read_bytes()
    (tmp_path / "frames" / "7.png").write_bytes(whole[:30])
    line = wrong(tmp_path, tmp_path / "frames")
    assert "cannot read" in line and "7.png" in line
    flags = ["data.variable=t2m", "metrics=mse,csi:threshhold=1"]
    line = wrong(tmp_path, tmp_path / "w.nc", *flags)
    assert "did you mean 'threshold'" in line
