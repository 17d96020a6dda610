"""Latitude-weighted scores equal the package scores and WeatherBench's formulas."""

import jax
import numpy as np
import pytest

from stjax import metrics
from stjax.errors import UserError
from stjax.metrics import create_metric, summarise

LATITUDE = np.linspace(-87.5, 87.5, 12)
DIMS = ["clip", "lead", "lat", "lon"]


def fields(seed=0):
    rng = np.random.default_rng(seed)
    target = 280 + 10 * rng.standard_normal((3, 2, 12, 20, 1)).astype(np.float32)
    pred = target + 3 * rng.standard_normal(target.shape).astype(np.float32)
    climatology = 280 + rng.standard_normal((12, 20, 1)).astype(np.float32)
    return pred, target, climatology, rng.random(target.shape) > 0.2


def evaluate(name, pred, target, mask, **options):
    metric = create_metric(name, **options)
    return summarise(*jax.jit(metric.fn)(pred, target, mask), metric)


@pytest.mark.parametrize("masked", [False, True])
def test_rmse_equals_scores(masked):
    xr = pytest.importorskip("xarray")
    continuous = pytest.importorskip("scores.continuous")
    functions = pytest.importorskip("scores.functions")
    pred, target, _, valid = fields()
    mask = valid if masked else None
    got = evaluate("rmse_latitude", pred, target, mask, latitude=LATITUDE)
    seen = np.where(valid, target, np.nan) if masked else target
    forecast = xr.DataArray(pred[..., 0], dims=DIMS, coords={"lat": LATITUDE})
    truth = xr.DataArray(seen[..., 0], dims=DIMS, coords={"lat": LATITUDE})
    weights = functions.create_latitude_weights(forecast.lat)
    curve = continuous.rmse(forecast, truth, preserve_dims=["lead"], weights=weights)
    np.testing.assert_allclose(got.curve, curve, rtol=1e-5)
    np.testing.assert_allclose(
        got.value, continuous.rmse(forecast, truth, weights=weights), rtol=1e-5
    )


@pytest.mark.parametrize("masked", [False, True])
def test_unweighted_acc_is_the_correlation_of_scores(masked):
    xr = pytest.importorskip("xarray")
    correlation = pytest.importorskip("scores.continuous.correlation")
    pred, target, climatology, valid = fields()
    mask = valid if masked else None
    got = evaluate("acc", pred, target, mask, climatology=climatology)
    seen = np.where(valid, target, np.nan) if masked else target
    expected = correlation.pearsonr(
        xr.DataArray((pred - climatology)[..., 0].astype(np.float64), dims=DIMS),
        xr.DataArray((seen - climatology)[..., 0].astype(np.float64), dims=DIMS),
        preserve_dims=["clip", "lead"],
    )
    np.testing.assert_allclose(got.curve, expected.mean("clip"), rtol=1e-5)


@pytest.mark.parametrize("centred", [True, False])
def test_weighted_acc_is_weatherbench(centred):
    pred, target, climatology, _ = fields()
    got = evaluate(
        "acc",
        pred,
        target,
        None,
        climatology=climatology,
        latitude=LATITUDE,
        centred=centred,
    )
    weight = np.cos(np.deg2rad(LATITUDE))[:, None, None]
    weight = np.broadcast_to(weight / weight.mean(), target.shape[2:])
    expected = np.zeros(target.shape[:2])
    for index in np.ndindex(expected.shape):
        forecast = (pred[index] - climatology).astype(np.float64)
        truth = (target[index] - climatology).astype(np.float64)
        if centred:
            forecast = forecast - np.average(forecast, weights=weight)
            truth = truth - np.average(truth, weights=weight)
        expected[index] = np.sum(weight * forecast * truth) / np.sqrt(
            np.sum(weight * forecast**2) * np.sum(weight * truth**2)
        )
    np.testing.assert_allclose(got.curve, expected.mean(0), rtol=1e-5)


def test_climatology_as_a_forecast_has_no_correlation():
    _, target, climatology, _ = fields()
    pred = np.broadcast_to(climatology, target.shape)
    assert np.isnan(evaluate("acc", pred, target, None, climatology=climatology).value)


def test_bad_grids():
    pred, target, climatology, _ = fields()
    with pytest.raises(UserError, match="12 degrees"):
        metrics.mse_latitude(pred, target, latitude=LATITUDE[:5])
    with pytest.raises(UserError, match="12 degrees"):
        metrics.mse_latitude(pred, target, latitude=LATITUDE + 50)
    with pytest.raises(UserError, match="does not broadcast"):
        metrics.anomaly_correlation(pred, target, climatology=climatology[:5])
