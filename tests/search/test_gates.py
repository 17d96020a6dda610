"""Gates and objective against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.search import gates

ONE = np.ones((1, 1))  # a slot with one path
FUSION = np.float32([[1, 0], [0, 1], [1, 1]])  # S, ST, S+ST over s, t


def logit(p):
    return np.log(p / (1 - p))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def one_gate(a, square, objective, weight_reg, **fields):
    logits, norms = jnp.reshape(a, (1,)), jnp.reshape(square, (1,))
    fields = {"objective": objective, "weight_reg": weight_reg, **fields}
    return gates.regulariser("bernoulli", logits, ONE, norms, **fields)


def test_value_and_gradients_of_one_gate():
    """Digits printed for the original: weight_reg 250, N 86017, p .1."""
    n, a = 86017, jnp.float32(-2.1972246)
    w = jnp.sqrt(1.3821133 / 8) * jnp.ones(8)

    def loss(a, w):
        return one_gate(a, jnp.sum(w**2), "code", 250.0) / n

    value, (by_a, by_w) = jax.value_and_grad(loss, (0, 1))(a, w)
    np.testing.assert_allclose(value, 3.6115e-3, rtol=2e-5)
    np.testing.assert_allclose(by_a, -3.6383e-4, rtol=2e-5)
    np.testing.assert_allclose(jnp.linalg.norm(by_w), 6.1504e-3, rtol=2e-5)
    p, square = sigmoid(-2.1972246), 1.3821133
    entropy = p * np.log(p) + (1 - p) * np.log(1 - p)
    exact = (250 * (1 - p) * square + entropy) / n
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    exact = p * (1 - p) * (-250 * square - 2.1972246) / n
    np.testing.assert_allclose(by_a, exact, rtol=1e-6)
    np.testing.assert_allclose(
        jnp.linalg.norm(by_w), 500 * (1 - p) * square**0.5 / n, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("objective", "prior", "attractor"),
    [("code", 0.5, 0.5), ("paper_eq5", 0.5, np.exp(-1)), ("spike_slab", 0.8, 0.8)],
)
def test_a_dead_path_goes_to_the_attractor(objective, prior, attractor):
    def loss(a):
        return one_gate(a, 0.0, objective, 1.0, prior=prior)

    step = jax.grad(loss)
    a = jax.lax.fori_loop(0, 3000, lambda _, a: a - 0.1 * step(a), jnp.float32(-2.2))
    np.testing.assert_allclose(sigmoid(a), attractor, atol=1e-3)
    assert abs(step(jnp.float32(logit(attractor)))) < 1e-6


def test_spike_and_slab_is_a_divergence():
    """Zero at the prior, and else log-ratios; a prior of .5 differs by log 2."""
    a, rho = jnp.float32([logit(0.3), logit(0.8)]), 0.8
    p = np.array([0.3, 0.8])
    ratio = p * np.log(p / rho) + (1 - p) * np.log((1 - p) / (1 - rho))
    value = gates.divergence("bernoulli", a, "spike_slab", rho)
    np.testing.assert_allclose(value, ratio.sum(), rtol=1e-5)
    half = gates.divergence("bernoulli", a, "spike_slab", 0.5)
    code = gates.divergence("bernoulli", a, "code")
    np.testing.assert_allclose(half - code, 2 * np.log(2), rtol=1e-6)
    alpha, prior = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.3, 0.1])
    value = gates.divergence("categorical", np.log(alpha), "spike_slab", prior)
    np.testing.assert_allclose(value, (alpha * np.log(alpha / prior)).sum(), rtol=1e-5)
    at_prior = gates.divergence("categorical", np.log(prior), "spike_slab", prior)
    np.testing.assert_allclose(at_prior, 0, atol=1e-6)


@pytest.mark.parametrize(("p", "keep"), [(0.1, 0.8954), (0.5, 0.5), (0.9, 0.105)])
def test_mean_of_the_relaxed_mask(p, keep):
    a = jnp.float32([logit(p)])
    masks = gates.concrete_keep(jax.random.key(0), a, 0.2, 200_000)
    np.testing.assert_allclose(masks.mean(), keep, atol=0.003)
    assert masks.shape == (200_000, 1) and masks.min() > 0 and masks.max() <= 1


def test_the_largest_entry_of_a_draw_has_the_units_probability():
    alpha = np.array([0.15, 0.25, 0.6])
    y = gates.gumbel_units(jax.random.key(1), np.log(alpha), 0.2, 100_000)
    np.testing.assert_allclose(y.sum(-1), 1, atol=1e-5)
    share = np.bincount(np.asarray(y).argmax(-1), minlength=3) / len(y)
    error = np.sqrt(alpha * (1 - alpha) / len(y))
    assert (abs(share - alpha) < 4 * error).all()
    masks = gates.soft_masks(
        jax.random.key(1), "categorical", np.log(alpha), FUSION, 0.2, 100_000, True
    )
    assert masks.sum(1).min() > 0.999  # never an empty slot
    on = np.asarray(gates.path_on("categorical", np.log(alpha), FUSION))
    np.testing.assert_allclose(on, [0.75, 0.85], rtol=1e-5)
    assert (abs(masks.mean(0) - on) < 4 * np.sqrt(on * (1 - on) / len(y))).all()


@pytest.mark.parametrize("gate", gates.GATES)
def test_straight_through_is_hard_with_the_soft_gradient(gate):
    logits = jnp.float32([0.3, -0.4, 0.1] if gate == "categorical" else [0.3, -0.4])
    key = jax.random.key(2)

    def drawn(logits, hard):
        return gates.soft_masks(key, gate, logits, FUSION, 0.5, 16, hard)

    masks = np.asarray(drawn(logits, True))
    np.testing.assert_allclose(masks, np.round(masks), atol=1e-6)
    weights = jax.random.normal(jax.random.key(3), masks.shape)
    slopes = [
        jax.grad(lambda a, hard=hard: (weights * drawn(a, hard)).sum())(logits)
        for hard in (True, False)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-6)


def test_the_divergence_of_narrow_gaussians_by_monte_carlo():
    """q = p N(0, s^2) + (1-p) N(theta, s^2) against N(0, 1/k^2), 16 weights."""
    size, s, k, n = 16, 0.01, 3.0, 100_000
    constant = 0.5 * size * ((k * s) ** 2 - 1 - np.log((k * s) ** 2))
    rng = np.random.default_rng(0)

    def monte_carlo(p, norm):
        theta = np.full(size, norm / size**0.5)
        off = rng.random(n) < p
        w = rng.normal(0, s, (n, size)) + np.where(off[:, None], 0, theta)
        near = [-0.5 * ((w - m) ** 2).sum(1) / s**2 for m in (0 * theta, theta)]
        log_q = np.logaddexp(np.log(p) + near[0], np.log(1 - p) + near[1])
        log_q -= size * np.log(s)
        return (log_q + 0.5 * k**2 * (w**2).sum(1) - size * np.log(k)).mean()

    for p in (0.1, 0.5, 0.9):
        fields = {"weight_reg": k**2 / 2, "objective": "code"}
        value = one_gate(jnp.float32(logit(p)), 1.0, **fields) + constant
        np.testing.assert_allclose(value, monte_carlo(p, 1.0), atol=0.03)
        # Where the weights vanish the divergence does not depend on p at all.
        np.testing.assert_allclose(monte_carlo(p, 0.0), 48.11, atol=0.03)


@pytest.mark.parametrize(("square", "p"), [(10, 0.129), (20, 0.178), (41, 0.507)])
def test_what_a_useless_path_keeps_is_set_by_its_first_norm(square, p):
    """``l - exp(-l) + ||w||^2 / 4`` is conserved while the weights decay."""

    def kept(a):
        return a - np.exp(-a)

    low, high = -2.2, 8.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        less = kept(middle) < kept(logit(0.1)) + square / 4
        low, high = (middle, high) if less else (low, middle)
    np.testing.assert_allclose(sigmoid(low), p, atol=0.01)

    slope = jax.grad(lambda x: one_gate(x[0], x[1] ** 2, "code", 250.0))
    start = jnp.float32([logit(0.1), np.sqrt(square)])
    end = jax.lax.fori_loop(0, 12_000, lambda _, x: x - 8e-6 * slope(x), start)
    np.testing.assert_allclose(sigmoid(end[0]), p, atol=0.01)


def test_gates_begin_with_the_same_paths():
    start = gates.initial_logits("bernoulli", FUSION, 0.1)
    np.testing.assert_allclose(gates.path_on("bernoulli", start, FUSION), 0.9)
    start = gates.initial_logits("categorical", FUSION, 0.1)
    p = np.exp(gates.unit_log_probs("categorical", start, FUSION))
    np.testing.assert_allclose(p, np.array([1, 1, 9]) / 11, rtol=1e-5)
    even = gates.unit_prior(FUSION, 0.5)
    np.testing.assert_allclose(even, 1 / 3)


def test_what_paths_share_counts_once():
    """Weights of both paths are kept unless both are dropped."""
    groups = np.float32([[1, 0], [1, 1]])
    p = np.array([0.3, 0.6])
    on = gates.path_on("bernoulli", logit(p), FUSION, groups)
    np.testing.assert_allclose(on, [0.7, 1 - 0.18], rtol=1e-5)
    alpha = np.array([0.2, 0.5, 0.3])
    on = gates.path_on("categorical", np.log(alpha), FUSION, groups)
    np.testing.assert_allclose(on, [0.5, 1.0], rtol=1e-5)
    value = gates.regulariser(
        *("categorical", np.log(alpha), FUSION, np.float32([3.0, 2.0])),
        weight_reg=0.5,
        prior=np.full(3, 1 / 3),
        nats=np.float32([7.0, 0.0]),
        groups=groups,
    )
    divergence = (alpha * np.log(3 * alpha)).sum()
    exact = divergence + 0.5 * (0.5 * 3 + 2) + 0.5 * 7
    np.testing.assert_allclose(value, exact, rtol=1e-5)


@pytest.mark.parametrize("gate", gates.GATES)
def test_extreme_logits_stay_finite_and_come_back(gate):
    size = 3 if gate == "categorical" else 2
    for sign in (1, -1):
        logits = sign * jnp.float32([90.0, -90.0, 0.0][:size])

        def loss(logits):
            prior = np.full(3, 1 / 3) if gate == "categorical" else 0.5
            one = jnp.ones(2)
            return gates.regulariser(gate, logits, FUSION, one, prior=prior)

        value, slope = jax.value_and_grad(loss)(logits)
        assert np.isfinite(value) and np.isfinite(slope).all()
        assert (np.sign(slope[:2]) == np.sign(logits[:2])).all()  # downhill: inwards
        masks = gates.soft_masks(jax.random.key(0), gate, logits, FUSION, 0.2, 8)
        assert np.isfinite(masks).all()
