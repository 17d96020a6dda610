"""The losses equal OpenSTL's values and closed forms, masked and unmasked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax import losses
from stjax.errors import UserError
from stjax.losses import create_loss, differential_divergence


def channels_last(clip):
    return jnp.moveaxis(jnp.asarray(clip), 2, -1)


@pytest.fixture(scope="module", params=["a", "b"])
def pair(request, golden):
    z, name = golden("metrics_pairs.npz"), request.param
    values = {key.removeprefix(f"{name}/"): z[key] for key in z.files if key[0] == name}
    return channels_last(values["pred"]), channels_last(values["true"]), values


def random_pair(shape=(3, 5, 6, 7, 2), seed=0):
    rng = np.random.default_rng(seed)
    return rng.random(shape, np.float32), rng.random(shape, np.float32)


def divergence_by_hand(pred, target, tau, valid=None):
    """KL per difference frame in float64, from the definition."""
    result = []
    for t in range(pred.shape[0] - 1):
        keep = np.ones(pred.shape[1:], bool)
        if valid is not None:
            keep = (valid[t] * valid[t + 1]).astype(bool)
        dp = (pred[t + 1].astype(np.float64) - pred[t])[keep] / tau
        dq = (target[t + 1].astype(np.float64) - target[t])[keep] / tau
        p, q = np.exp(dp) / np.exp(dp).sum(), np.exp(dq) / np.exp(dq).sum()
        result.append((np.sum(p * np.log(p / q)), keep.sum()))
    return np.array(result)


@pytest.mark.parametrize(
    ("key", "tau", "frames", "rtol"),
    [
        ("reg", 0.1, None, 1e-5),
        ("reg_tau0.05", 0.05, None, 1e-5),
        ("reg_tau1.0", 1.0, None, 3e-5),
        ("reg_T3", 0.1, 3, 1e-5),
    ],
)
def test_divergence_equals_openstl(pair, key, tau, frames, rtol):
    pred, true, values = pair
    got = differential_divergence(pred[:, :frames], true[:, :frames], temperature=tau)
    assert got.shape == (2,) and got.dtype == jnp.float32
    np.testing.assert_allclose(got.mean(), values[key], rtol=rtol)


def test_divergence_gradient_equals_openstl(pair):
    pred, true, values = pair
    grad = jax.jit(jax.grad(lambda p: differential_divergence(p, true).mean()))(pred)
    expected = channels_last(values["reg_grad"])
    error = jnp.abs(grad - expected).max() / jnp.abs(expected).max()
    assert error <= 1e-4


def test_training_loss_equals_openstl(pair):
    pred, true, values = pair
    loss = jax.jit(create_loss("mse_divergence", alpha=0.1))
    np.testing.assert_allclose(loss(pred, true).mean(), values["loss"], rtol=1e-5)
    loss = create_loss("mse")
    np.testing.assert_allclose(loss(pred, true).mean(), values["mse_loss"], rtol=1e-5)


def test_divergence_of_the_truth_is_zero(pair):
    _, true, values = pair
    got = differential_divergence(true, true).mean()
    assert abs(got - values["reg_self"]) <= 1e-9


@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips_have_no_divergence(frames):
    pred, target = random_pair((3, frames, 4, 4, 1))
    grad = jax.grad(lambda p: differential_divergence(p, target).sum())(pred)
    np.testing.assert_array_equal(differential_divergence(pred, target), np.zeros(3))
    np.testing.assert_array_equal(grad, np.zeros_like(pred))


def test_sum_is_the_paper():
    pred, target = random_pair()
    expected = [
        divergence_by_hand(p, t, 0.1)[:, 0].sum()
        for p, t in zip(pred, target, strict=True)
    ]
    got = differential_divergence(pred, target, reduction="sum")
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    total = create_loss("mse_divergence", reduction="sum", alpha=0.2)(pred, target)
    squares = np.sum((pred - target) ** 2, axis=(1, 2, 3, 4))
    np.testing.assert_allclose(total, squares + 0.2 * np.array(expected), rtol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_masked_divergence(reduction):
    pred, target = random_pair()
    valid = np.random.default_rng(1).random(pred.shape) > 0.3
    expected = []
    for p, t, v in zip(pred, target, valid, strict=True):
        total, count = divergence_by_hand(p, t, 0.1, v).sum(0)
        expected.append(total if reduction == "sum" else total / count)
    pred[~valid], target[~valid] = np.inf, np.nan

    def loss(p):
        return differential_divergence(p, target, mask=valid, reduction=reduction)

    np.testing.assert_allclose(loss(pred), expected, rtol=1e-5)
    grad = jax.jit(jax.grad(lambda p: loss(p).sum()))(pred)
    assert jnp.isfinite(grad).all()
    np.testing.assert_array_equal(grad[~valid], 0)


@pytest.mark.parametrize("name", ["mse", "mae", "mse_mae"])
def test_masked_errors(name):
    pred, target = random_pair()
    valid = np.random.default_rng(1).random(pred.shape) > 0.3
    expected = []
    for p, t, v in zip(pred.astype(np.float64), target, valid, strict=True):
        error = np.abs(p - t)[v]
        terms = {"mse": np.mean(error**2), "mae": np.mean(error)}
        expected.append(sum(terms[part] for part in name.split("_")))
    target[~valid] = np.nan
    got = create_loss(name)(pred, target, valid.astype(np.uint8))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["mse", "mae", "mse_mae", "mse_divergence"])
def test_nothing_valid_costs_nothing(name):
    pred, target = random_pair()
    loss = jax.jit(create_loss(name))
    mask = np.ones_like(target)
    mask[1] = 0
    np.testing.assert_array_equal(loss(pred, target, mask)[1], 0)
    np.testing.assert_allclose(
        loss(pred, target, mask)[0], loss(pred, target)[0], rtol=1e-6
    )
    grad = jax.grad(lambda p: loss(p, target, mask).sum())(pred)
    np.testing.assert_array_equal(grad[1], 0)


def test_vmap_over_clips_equals_the_batch():
    pred, target = random_pair()
    for loss in (differential_divergence, losses.mse, losses.mae):
        np.testing.assert_allclose(
            jax.vmap(loss)(pred, target), loss(pred, target), rtol=1e-6
        )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(dtype):
    pred, target = (jnp.asarray(x, dtype) for x in random_pair())
    got = differential_divergence(pred, target)
    same = differential_divergence(pred.astype(jnp.float32), target.astype(jnp.float32))
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, same)


def test_bad_names_and_shapes():
    pred, target = random_pair()
    with pytest.raises(UserError, match="unknown loss 'mes'; did you mean 'mse'"):
        create_loss("mes")
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        create_loss("mse_divergence", temprature=0.1)
    with pytest.raises(UserError, match="unknown reduction"):
        create_loss("mse", reduction="avg")
    with pytest.raises(UserError, match="equal shapes"):
        losses.mse(pred, target[:, :3])
    with pytest.raises(UserError, match="above 0"):
        differential_divergence(pred, target, temperature=0.0)
