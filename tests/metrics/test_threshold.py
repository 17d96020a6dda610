"""Event scores equal the packages that forecasters use: scores and pysteps."""

import contextlib
import io
import operator

import jax
import numpy as np
import pytest

from stjax import metrics
from stjax.errors import UserError
from stjax.metrics import create_metric, summarise

THRESHOLD = 0.6


def fields(shape=(3, 4, 24, 30, 1), seed=0):
    rng = np.random.default_rng(seed)
    target = rng.random(shape).astype(np.float32)
    pred = 0.6 * target + 0.4 * rng.random(shape).astype(np.float32)
    valid = rng.random(shape) > 0.2
    return pred, target, valid


def evaluate(spec, pred, target, mask=None):
    metric = create_metric(spec)
    return summarise(*jax.jit(metric.fn)(pred, target, mask), metric)


def pysteps_verification():
    pytest.importorskip("pysteps")
    with contextlib.redirect_stdout(io.StringIO()):
        from pysteps import verification
    return verification


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("csi", "critical_success_index"),
        ("pod", "probability_of_detection"),
        ("far", "false_alarm_ratio"),
        ("sucr", "success_ratio"),
        ("bias", "frequency_bias"),
    ],
)
def test_categorical_scores_equal_scores(name, method, masked):
    xr = pytest.importorskip("xarray")
    categorical = pytest.importorskip("scores.categorical")
    pred, target, valid = fields()
    mask = valid if masked else None
    got = evaluate(f"{name}:threshold={THRESHOLD}", pred, target, mask)
    dims = ["clip", "lead", "y", "x", "c"]
    seen = np.where(valid, target, np.nan) if masked else target
    event = categorical.ThresholdEventOperator(
        default_event_threshold=np.float32(THRESHOLD), default_op_fn=operator.ge
    )
    table = event.make_contingency_manager(
        xr.DataArray(pred, dims=dims), xr.DataArray(seen, dims=dims)
    )
    curve = getattr(table.transform(preserve_dims=["lead"]), method)()
    value = getattr(table.transform(reduce_dims="all"), method)()
    np.testing.assert_allclose(got.curve, curve, rtol=1e-6)
    np.testing.assert_allclose(got.value, value, rtol=1e-6)


@pytest.mark.parametrize("name", ["CSI", "POD", "FAR", "BIAS"])
def test_categorical_scores_equal_pysteps(name):
    verification = pysteps_verification()
    pred, target, _ = fields()
    got = evaluate(f"{name.lower()}:threshold={THRESHOLD}", pred, target)
    expected = verification.detcatscores.det_cat_fct(
        pred, target, np.float32(THRESHOLD), name
    )
    np.testing.assert_allclose(got.value, expected[name], rtol=1e-6)


def test_contingency_counts_every_valid_cell_once():
    pred, target, valid = fields()
    table = metrics.contingency(pred, target, valid, threshold=THRESHOLD)
    np.testing.assert_array_equal(sum(table), valid.sum((2, 3, 4)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("window", [1, 2, 5, 8, 41])
def test_fss_equals_pysteps(window, masked):
    verification = pysteps_verification()
    pred, target, valid = fields()
    spec = f"fss:threshold={THRESHOLD},window={window}"
    mask = valid if masked else None
    got = evaluate(spec, pred, target, mask)
    if masked:
        pred, target = np.where(valid, pred, np.nan), np.where(valid, target, np.nan)
    for lead in range(target.shape[1]):
        score = verification.spatialscores.fss_init(np.float32(THRESHOLD), window)
        for clip in range(target.shape[0]):
            verification.spatialscores.fss_accum(
                score, pred[clip, lead, ..., 0], target[clip, lead, ..., 0]
            )
        expected = verification.spatialscores.fss_compute(score)
        np.testing.assert_allclose(got.curve[lead], expected, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("window", [1, 4, 9])
def test_fss_inside_the_frame_equals_scores(window, masked):
    xr = pytest.importorskip("xarray")
    spatial = pytest.importorskip("scores.spatial")
    pred, target, valid = fields()
    spec = f"fss:threshold={THRESHOLD},window={window},zero_padding=0"
    got = evaluate(spec, pred, target, valid if masked else None)
    if masked:
        pred, target = np.where(valid, pred, np.nan), np.where(valid, target, np.nan)
    dims = ["clip", "lead", "y", "x", "c"]
    options = {
        "event_threshold": np.float32(THRESHOLD),
        "window_size": (window, window),
        "spatial_dims": ("y", "x"),
        "threshold_operator": np.greater_equal,
    }
    arrays = [xr.DataArray(a, dims=dims)[..., 0] for a in (pred, target)]
    curve = spatial.fss_2d(*arrays, **options, preserve_dims=["lead"])
    value = spatial.fss_2d(*arrays, **options, reduce_dims="all")
    np.testing.assert_allclose(got.curve, curve, rtol=1e-5)
    np.testing.assert_allclose(got.value, value, rtol=1e-5)


def test_no_event_anywhere_is_nan():
    pred, target, _ = fields()
    for spec in ("csi:threshold=2", "fss:threshold=2,window=3"):
        assert np.isnan(evaluate(spec, pred, target).value)


def test_windows_that_do_not_fit():
    pred, target, _ = fields()
    with pytest.raises(UserError, match="window of 1 or more"):
        metrics.fss(pred, target, threshold=0.5, window=2.5)
    with pytest.raises(UserError, match="at least"):
        metrics.fss(pred, target, threshold=0.5, window=25, zero_padding=False)
