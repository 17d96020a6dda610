"""Mixup, cutmix and random erasing: closed forms, statistics, jit and a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from stjax.losses import cross_entropy
from stjax.sharding.mesh import batch_sharding, make_mesh
from stjax.training import mixing
from stjax.training.mixing import erase, mix

N = 4


def labelled(n=N, t=2, height=20, width=30):
    """Clip n is 1 in channel n: a mixture shows its weights in its channels."""
    x = jnp.broadcast_to(jnp.eye(n)[:, None, None, None], (n, t, height, width, n))
    return x, jnp.eye(n)


@functools.lru_cache
def mixed(draws, **fields):
    """Pictures [draws, N, T, H, W, C] and targets [draws, N, K]."""
    x, target = labelled()
    keys = jax.random.split(jax.random.key(0), draws)
    run = jax.jit(jax.vmap(lambda key: mix(key, x, target, **fields)))
    return tuple(np.asarray(a) for a in run(keys))


@pytest.mark.parametrize(
    "fields", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}]
)
def test_targets_are_the_shares_of_the_pixels(fields):
    x, target = mixed(100, **fields)
    means = x.mean((2, 3, 4), dtype=np.float64)
    np.testing.assert_allclose(means, target, atol=1e-6)
    np.testing.assert_allclose(target.sum(-1), 1, atol=1e-6)
    # Clip n is mixed with clip N - 1 - n, by one share for the whole batch.
    own = target[:, 0, 0]
    eye = np.eye(N)
    want = own[:, None, None] * eye + (1 - own)[:, None, None] * eye[::-1]
    np.testing.assert_allclose(target, want, atol=1e-6)


def test_mixup_is_a_convex_combination_by_a_beta_share():
    x, target = mixed(100, mixup=0.8)
    shares = target[:, 0, 0]
    assert np.ptp(x[:, 0, ..., 0], axis=(1, 2, 3)).max() == 0
    assert stats.kstest(shares, "beta", (0.8, 0.8)).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.8, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha):
    draws = jax.random.uniform(jax.random.key(7), (2, 4000))
    shares = np.asarray(mixing._symmetric_beta(draws, alpha), np.float64)
    assert (shares >= 0).all() and (shares <= 1).all()
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    if alpha >= 0.2:  # below, float32 rounds many to 0 and 1
        assert stats.kstest(shares, "beta", (alpha, alpha)).pvalue > 0.01


def test_cutmix_is_a_box_the_same_on_all_frames_and_clips():
    x, target = mixed(100, cutmix=1.0)
    other = 1 - x[:, 0, :, :, :, 0]  # 1 in the box
    assert set(np.unique(other)) <= {0.0, 1.0}
    np.testing.assert_array_equal(other[:, 0], other[:, 1])
    np.testing.assert_array_equal(other, 1 - x[:, 2, :, :, :, 2])
    rows, cols = other[:, 0].max(2), other[:, 0].max(1)
    np.testing.assert_array_equal(other[:, 0], rows[:, :, None] * cols[:, None])
    assert (np.abs(np.diff(rows, axis=1)).sum(1) <= 2).all()  # one piece
    area = other[:, 0].mean((1, 2))
    np.testing.assert_allclose(target[:, 0, 0], 1 - area, atol=1e-5)
    assert len(np.unique(area)) > 50


def test_size_of_the_box():
    # sqrt(1 - 0.75) = 1/2 of each side: 10 and 15, the latter rounded down to even.
    draws = jax.random.uniform(jax.random.key(1), (300, 2))
    boxes = jax.vmap(lambda u: mixing._box(u, (20, 30), jnp.float32(0.75)))(draws)
    rows, cols = np.asarray(boxes).max(2).sum(1), np.asarray(boxes).max(1).sum(1)
    assert rows.max() == 10 and rows.min() == 5  # half of it beyond the border
    assert cols.max() == 14 and cols.min() == 7
    # The centre is any pixel: on 11 of 20 rows the box lies within.
    assert np.mean(rows == 10) == pytest.approx(11 / 20, abs=0.09)
    np.testing.assert_array_equal(np.asarray(boxes).sum((1, 2)), rows * cols)


def test_probabilities_of_mixing_and_of_cutmix():
    x, target = mixed(600, mixup=0.8, cutmix=1.0, prob=0.7, switch_prob=0.25)
    alone = target[:, 0, 0] == 1
    assert alone.mean() == pytest.approx(0.3, abs=0.06)
    np.testing.assert_array_equal(
        x[alone], np.broadcast_to(labelled()[0], x[alone].shape)
    )
    blended = np.any((x > 0) & (x < 1), axis=(1, 2, 3, 4, 5))
    assert blended[~alone].mean() == pytest.approx(0.75, abs=0.06)


def test_nothing_to_mix_leaves_the_batch_alone():
    x, target = labelled()
    for fields in ({}, {"mixup": 0.0}, {"cutmix": 1.0, "prob": 0.0}):
        same, targets = mix(jax.random.key(0), x, target, **fields)
        np.testing.assert_array_equal(same, x)
        np.testing.assert_array_equal(targets, target)


def test_half_precision_stays_and_targets_stay_exact():
    x, target = labelled()
    run = jax.jit(lambda x: mix(jax.random.key(3), x, target, mixup=0.8))
    y, targets = run(x.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16 and targets.dtype == jnp.float32
    np.testing.assert_array_equal(targets, run(x)[1])
    half = jax.eval_shape(lambda x: erase(jax.random.key(3), x, prob=1.0), y)
    assert half.shape == y.shape and half.dtype == jnp.bfloat16


def test_gradient_of_mixup_is_that_of_the_mixture():
    x, target = labelled()

    def loss(y, targets):
        return cross_entropy(y.mean((1, 2, 3)), targets).sum()

    @jax.jit
    def through(x):
        return loss(*mix(jax.random.key(5), x, target, mixup=0.8))

    @jax.jit
    def by_hand(x, own):
        y = own * x + (1 - own) * x[::-1]
        return loss(y, own * target + (1 - own) * target[::-1])

    own = mix(jax.random.key(5), x, target, mixup=0.8)[1][0, 0]
    np.testing.assert_allclose(jax.grad(through)(x), jax.grad(by_hand)(x, own), 1e-4)


@functools.lru_cache
def holes(prob=1.0, aspect=0.3, n=1000):
    """Which pixels [n, 48, 48] of n clips are erased."""
    draws = jax.random.uniform(jax.random.key(0), (n, 23))
    one = functools.partial(
        mixing._erased, size=(48, 48), prob=prob, area=(0.02, 1 / 3), aspect=aspect
    )
    return np.asarray(jax.vmap(one)(draws))


def test_share_of_clips_and_of_area_that_is_erased():
    assert holes(0.25).any((1, 2)).mean() == pytest.approx(0.25, abs=0.05)
    # Squares always fit: the mean share is that of the uniform law.
    share = holes(aspect=1.0).mean((1, 2))
    assert share.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.01)
    assert 0.015 < share.min() < 0.03 and 0.32 < share.max() < 0.35


def test_erased_boxes():
    rows, cols = holes().max(2), holes().max(1)
    np.testing.assert_array_equal(holes(), rows[:, :, None] & cols[:, None])
    h, w = rows.sum(1), cols.sum(1)
    assert (h > 0).all() and (h < 48).all() and (w < 48).all()
    ratio = h / w
    assert ratio.min() < 0.4 and ratio.max() > 2.5  # of 0.3 to 3.33
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.1)
    first = rows.argmax(1)
    assert first.min() == 0 and (first + h).max() == 48


def test_erasing_puts_fresh_normal_noise_into_some_clips():
    x = jnp.full((200, 3, 24, 24, 2), 9.0)
    run = jax.jit(lambda x: erase(jax.random.key(0), x, prob=0.5))
    y = np.asarray(run(x))
    hole = y != 9
    assert hole.any((1, 2, 3, 4)).mean() == pytest.approx(0.5, abs=0.12)
    box = hole[:, 0, :, :, 0]
    np.testing.assert_array_equal(hole, box[:, None, :, :, None] & np.ones_like(hole))
    assert len({b.tobytes() for b in box}) > 80  # each clip its own
    noise = y[hole]
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.02)
    frames = np.corrcoef(y[:, 0][box].ravel(), y[:, 1][box].ravel())
    assert abs(frames[0, 1]) < 0.03
    slope = jax.grad(lambda x: run(x).sum())(x)
    np.testing.assert_array_equal(slope, ~hole)


def test_equal_on_a_mesh_of_eight():
    x = jax.random.normal(jax.random.key(1), (8, 2, 8, 8, 3))
    target = jnp.eye(8)

    @jax.jit
    def run(x, target):
        x = erase(jax.random.key(2), x, prob=0.7)
        return mix(jax.random.key(3), x, target, mixup=0.8, cutmix=1.0)

    mesh = make_mesh(data=2, fsdp=2, space=2)
    with jax.set_mesh(mesh):
        parts = [jax.device_put(a, batch_sharding(mesh, a.shape)) for a in (x, target)]
        got = run(*parts)
    for a, b in zip(got, run(x, target), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
