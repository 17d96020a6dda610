"""The losses of labels equal closed forms and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.errors import UserError
from stjax.losses import create_loss, cross_entropy, sigmoid_cross_entropy, smooth


def random_case(batch=4, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    logits = 5 * rng.standard_normal((batch, classes)).astype(np.float32)
    target = rng.dirichlet(np.ones(classes), batch).astype(np.float32)
    return logits, target


def test_uniform_logits_cost_log_k():
    target = np.eye(5, dtype=np.float32)
    np.testing.assert_allclose(cross_entropy(np.full((5, 5), 3.0), target), np.log(5))


def test_two_classes_are_a_softplus():
    logits = np.array([[0.0, 2.0], [0.0, -3.0]], np.float32)
    target = np.array([[1, 0], [0.25, 0.75]], np.float32)
    by_hand = [
        np.log1p(np.exp(2.0)),
        0.25 * np.log1p(np.exp(-3.0)) + 0.75 * np.log1p(np.exp(3.0)),
    ]
    np.testing.assert_allclose(cross_entropy(logits, target), by_hand, rtol=1e-6)


def test_gradient_of_cross_entropy_is_softmax_minus_target():
    logits, target = random_case()
    got = jax.grad(lambda x: cross_entropy(x, target).sum())(logits)
    np.testing.assert_allclose(got, jax.nn.softmax(logits) - target, atol=1e-6)


def test_an_impossible_class_costs_nothing_where_it_is_not_wanted():
    logits = jnp.array([[0.0, 0.0, -jnp.inf]])
    target = jnp.array([[1.0, 0.0, 0.0]])
    value, gradient = jax.value_and_grad(lambda x: cross_entropy(x, target)[0])(logits)
    assert value == pytest.approx(np.log(2))
    np.testing.assert_allclose(gradient, [[-0.5, 0.5, 0.0]])


def test_sigmoid_by_hand_and_far_out():
    logits = np.array([[0.0, 0.0], [2.0, -1.0], [1000.0, -1000.0]], np.float32)
    target = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    by_hand = [
        np.log(2),
        (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(1.0))) / 2,
        500.0,
    ]
    np.testing.assert_allclose(sigmoid_cross_entropy(logits, target), by_hand, 1e-6)
    gradient = jax.grad(lambda x: sigmoid_cross_entropy(x, target).sum())(logits)
    probability = 1 / (1 + np.exp(-logits[:2]))
    np.testing.assert_allclose(gradient[:2], (probability - target[:2]) / 2, atol=1e-6)


def test_masked_classes_take_no_part():
    logits, target = random_case()
    mask = np.array([1, 1, 0, 1, 1, 0, 1], np.uint8)
    kept = mask > 0
    wild = np.where(kept, logits, np.nan)
    for loss in (cross_entropy, sigmoid_cross_entropy):
        want = loss(logits[:, kept], target[:, kept])
        np.testing.assert_allclose(loss(wild, target, mask), want, rtol=1e-6)
        gradient = jax.grad(lambda x, f=loss: f(x, target, mask).sum())(wild)
        assert np.isfinite(gradient).all() and not gradient[:, ~kept].any()
        np.testing.assert_array_equal(loss(logits, target, np.zeros(7)), 0)


def test_smoothing_of_one_hot_targets():
    got = smooth(jnp.eye(4)[:1], 0.1)
    np.testing.assert_allclose(got, [[0.925, 0.025, 0.025, 0.025]], rtol=1e-6)
    _, soft = random_case()
    np.testing.assert_allclose(smooth(soft, 0.3).sum(-1), 1, rtol=1e-6)
    with pytest.raises(UserError, match="expected 0 up to 1"):
        smooth(soft, 1.0)


def test_smoothing_before_and_after_mixing_are_the_same():
    a, b = np.eye(5, dtype=np.float32)[[1, 4]]
    after = smooth(0.3 * a + 0.7 * b, 0.1)
    np.testing.assert_allclose(
        0.3 * smooth(a, 0.1) + 0.7 * smooth(b, 0.1), after, rtol=1e-6
    )


def test_create_loss():
    logits, target = random_case()
    smoothed = create_loss("cross_entropy", label_smoothing=0.1, alpha=None)
    want = cross_entropy(logits, smooth(target, 0.1))
    np.testing.assert_array_equal(smoothed(logits, target), want)
    plain = create_loss("cross_entropy", label_smoothing=None)
    np.testing.assert_array_equal(plain(logits, target), cross_entropy(logits, target))
    sigmoid = create_loss("sigmoid", label_smoothing=0.0)
    want = sigmoid_cross_entropy(logits, target)
    np.testing.assert_array_equal(sigmoid(logits, target, mask=None), want)
    for name in ("sigmoid", "mse"):
        with pytest.raises(UserError, match="label_smoothing=0.1 has no meaning"):
            create_loss(name, label_smoothing=0.1)


def test_half_precision_is_computed_in_float32():
    logits, target = random_case()
    for loss in (cross_entropy, sigmoid_cross_entropy):
        got = loss(jnp.asarray(logits, jnp.bfloat16), jnp.asarray(target))
        assert got.shape == (4,) and got.dtype == jnp.float32
        want = loss(jnp.asarray(logits, jnp.bfloat16).astype(jnp.float32), target)
        np.testing.assert_array_equal(got, want)


def test_wrong_shapes_say_so():
    for loss in (cross_entropy, sigmoid_cross_entropy):
        with pytest.raises(UserError, match=r"two equal shapes \[B, K\]"):
            loss(np.zeros((2, 3)), np.zeros((2, 4)))


def test_equal_to_torch():
    torch = pytest.importorskip("torch")
    logits, target = random_case(16, 11)
    x, y = torch.from_numpy(logits), torch.from_numpy(target)
    want = torch.nn.functional.cross_entropy(x, y, reduction="none")
    np.testing.assert_allclose(cross_entropy(logits, target), want, rtol=1e-5)
    want = torch.nn.functional.cross_entropy(
        x, y, reduction="none", label_smoothing=0.1
    )
    loss = create_loss("cross_entropy", label_smoothing=0.1)
    np.testing.assert_allclose(loss(logits, target), want, rtol=1e-5)
    want = torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    np.testing.assert_allclose(
        sigmoid_cross_entropy(logits, target), want.mean(-1), rtol=1e-5
    )
