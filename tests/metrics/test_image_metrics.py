"""MSE, MAE, RMSE, PSNR, SNR, SSIM equal OpenSTL and scikit-image, masked and not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax import metrics
from stjax.errors import UserError
from stjax.metrics import METRICS, create_metric, summarise


def channels_last(clip):
    return jnp.moveaxis(jnp.asarray(clip), 2, -1)


@pytest.fixture(scope="module", params=["a", "b"])
def pair(request, golden):
    z, name = golden("metrics_pairs.npz"), request.param
    values = {key.removeprefix(f"{name}/"): z[key] for key in z.files if key[0] == name}
    return channels_last(values["pred"]), channels_last(values["true"]), values


def evaluate(name, pred, target, mask=None):
    metric = create_metric(name)
    numerator, denominator = jax.jit(metric.fn)(pred, target, mask)
    assert numerator.shape == denominator.shape == target.shape[:2]
    assert numerator.dtype == denominator.dtype == jnp.float32
    return summarise(numerator, denominator, metric)


@pytest.mark.parametrize(
    ("name", "key", "rtol", "atol"),
    [
        ("mse", "mse", 1e-5, 0),
        ("mae", "mae", 1e-5, 0),
        ("rmse", "rmse", 1e-5, 0),
        ("mse_mean", "mse_spatial_norm", 1e-5, 0),
        ("mae_mean", "mae_spatial_norm", 1e-5, 0),
        ("psnr", "psnr", 0, 1e-4),
        ("snr", "snr", 0, 1e-4),
        ("ssim", "ssim_dr1", 0, 1e-5),
        ("ssim_range2", "ssim_dr2", 0, 1e-5),
    ],
)
def test_equals_openstl(pair, name, key, rtol, atol):
    pred, true, values = pair
    got = evaluate(name, pred, true)
    np.testing.assert_allclose(got.value, values[key], rtol=rtol, atol=atol)
    frames = f"{key}_per_frame"
    if frames in values:
        np.testing.assert_allclose(got.curve, values[frames].mean(0), atol=atol)
        numerator, denominator = jax.jit(create_metric(name).fn)(pred, true)
        np.testing.assert_allclose(
            numerator / denominator, values[frames], rtol=0, atol=atol
        )


def smooth_pair(shape=(2, 3, 20, 24, 2), seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[2], : shape[3]] / 8
    target = 0.5 + 0.4 * np.sin(x + y + rng.random(shape[:2])[..., None, None])
    target = np.repeat(target[..., None], shape[-1], -1).astype(np.float32)
    noise = 0.1 * rng.standard_normal(shape).astype(np.float32)
    return target + noise, target


@pytest.mark.parametrize("offset", [0.0, 0.45])
def test_ssim_equals_scikit_image_on_nearly_flat_frames(offset):
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    pred, target = smooth_pair()
    pred, target = 0.05 * pred + offset, 0.05 * target + offset
    numerator, denominator = jax.jit(metrics.ssim)(pred, target)
    expected = [
        [
            structural_similarity(
                p.astype(np.float64),
                t.astype(np.float64),
                channel_axis=-1,
                data_range=1,
            )
            for p, t in zip(*clip, strict=True)
        ]
        for clip in zip(np.clip(pred, 0, 1), target, strict=True)
    ]
    np.testing.assert_allclose(numerator / denominator, expected, atol=1e-5)


def test_mask_of_whole_frames_and_cells():
    pred, target = smooth_pair()
    valid = np.random.default_rng(3).random(target.shape) > 0.2
    valid[0, 1] = False
    error = (pred - target).astype(np.float64)
    spoiled = np.where(valid, target, np.nan)
    frame = np.prod(target.shape[2:])
    got = evaluate("mse", pred, spoiled, valid)
    np.testing.assert_allclose(got.value, frame * np.mean(error[valid] ** 2), rtol=1e-5)
    got = evaluate("mae_mean", pred, spoiled, valid)
    np.testing.assert_allclose(got.value, np.mean(np.abs(error[valid])), rtol=1e-5)
    got = evaluate("psnr", pred, spoiled, valid)
    error = np.clip(pred, 0, 1) - target
    decibel = [
        -10 * np.log10(np.mean(e[v] ** 2))
        for e, v in zip(error.reshape(6, -1), valid.reshape(6, -1), strict=True)
        if v.any()
    ]
    assert len(decibel) == 5
    np.testing.assert_allclose(got.value, np.mean(decibel), atol=1e-4)


def test_masked_ssim_averages_the_whole_windows():
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    pred, target = smooth_pair((1, 1, 20, 24, 1))
    valid = np.ones(target.shape, np.uint8)
    valid[:, :, :, 15:] = 0
    got = evaluate("ssim", pred, np.where(valid, target, np.nan), valid)
    left = structural_similarity(
        np.clip(pred[0, 0, :, :15, 0], 0, 1), target[0, 0, :, :15, 0], data_range=1
    )
    np.testing.assert_allclose(got.value, left, atol=1e-5)


@pytest.mark.parametrize("name", ["mse", "mae", "psnr", "snr", "ssim", "psnr_wrapped"])
def test_nothing_valid_is_nan_and_adds_nothing(name):
    pred, target = smooth_pair()
    mask = np.zeros_like(target)
    assert np.isnan(evaluate(name, pred, target, mask).value)
    mask[1] = 1
    both = evaluate(name, pred, target, mask).value
    np.testing.assert_allclose(
        both, evaluate(name, pred[1:], target[1:]).value, rtol=1e-6
    )


def test_exact_frames_are_held_at_100_decibel():
    _, target = smooth_pair()
    assert evaluate("psnr", target, target).value == 100
    assert evaluate("snr", target, target).value == 100
    assert evaluate("snr", target, 0 * target).value == -100


@pytest.mark.parametrize(("sigma", "printed"), [(0.07, 29.02), (0.2, 28.01)])
def test_wrapped_psnr(sigma, printed):
    """Equal to numpy's bytes, and inflated as measured for noise of this size."""
    rng = np.random.default_rng(0)
    target = np.full((1, 1, 256, 256, 1), 0.5, np.float32)
    pred = target + sigma * rng.standard_normal(target.shape).astype(np.float32)
    wrapped = np.uint8(np.clip(pred, 0, 1) * 255) - np.uint8(target * 255)
    expected = 20 * np.log10(255) - 10 * np.log10(np.mean(wrapped**2))
    got = evaluate("psnr_wrapped", pred, target).value
    np.testing.assert_allclose(got, expected, atol=1e-4)
    np.testing.assert_allclose(got, printed, atol=0.5)
    assert evaluate("psnr", pred, target).value < got - 4


def test_weights_of_padding_leave_the_result_exact():
    pred, target = smooth_pair((4, 3, 12, 12, 1))
    weight = np.array([1, 1, 1, 0], np.float32)[:, None]
    for name in ("rmse", "psnr", "ssim"):
        metric = METRICS[name]
        numerator, denominator = jax.jit(metric.fn)(pred, target)
        padded = summarise(numerator * weight, denominator * weight, metric)
        short = summarise(*jax.jit(metric.fn)(pred[:3], target[:3]), metric)
        np.testing.assert_allclose(padded.value, short.value, rtol=1e-6)
        np.testing.assert_allclose(padded.curve, short.curve, rtol=1e-6)


def test_bad_names_options_and_shapes():
    pred, target = smooth_pair()
    with pytest.raises(UserError, match="unknown metric 'mes'"):
        create_metric("mes")
    with pytest.raises(UserError, match="unknown option of metric ssim"):
        create_metric("ssim:datarange=2")
    with pytest.raises(UserError, match="expected data_range=number"):
        create_metric("ssim:data_range=two")
    with pytest.raises(UserError, match="expected name=value"):
        create_metric("ssim:data_range")
    with pytest.raises(UserError, match="'csi' needs threshold"):
        create_metric("csi")
    with pytest.raises(UserError, match="equal shapes"):
        metrics.mse(pred, target[:, :2])
    with pytest.raises(UserError, match="at least 7x7"):
        metrics.ssim(pred[:, :, :5], target[:, :, :5])
    assert create_metric("ssim:data_range=2").fn.keywords == {"data_range": 2}
