"""The moving average of parameters follows its closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.training import ema


def test_the_decay_warms_up_to_its_limit():
    steps = jnp.arange(200)
    found = jax.vmap(lambda t: ema.decay_at(t, 0.9))(steps)
    np.testing.assert_allclose(found[:3], [1 / 10, 2 / 11, 3 / 12], rtol=1e-6)
    # (1 + t) / (10 + t) reaches .9 at t = 80.
    np.testing.assert_allclose(found[79:82], [80 / 89, 0.9, 0.9], rtol=1e-6)
    np.testing.assert_allclose(found[100:], 0.9, rtol=1e-6)


def test_average_equals_the_recursion_in_float64():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((60, 3, 2)).astype(np.float32)
    average = ema.init({"w": jnp.asarray(weights[0])})
    expected = weights[0].astype(np.float64)
    update = jax.jit(lambda e, p, t: ema.update(e, p, t, 0.7))
    for t, w in enumerate(weights[1:]):
        average = update(average, {"w": w}, t)
        d = min(0.7, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * w
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5, atol=1e-6)


def test_constant_parameters_are_their_own_average():
    params = {"w": jnp.asarray([0.1, -3.0])}
    average = ema.init(params)
    for t in range(5):
        average = ema.update(average, params, t, 0.999)
    np.testing.assert_array_equal(average["w"], params["w"])


@pytest.mark.filterwarnings("error")
def test_the_average_has_its_own_buffers():
    params = {"w": jnp.ones(4)}
    start = jax.jit(lambda p: (p, ema.init(p)))
    params, average = start(params)
    step = jax.jit(
        lambda p, e: ({"w": p["w"] + 1}, ema.update(e, p, 0, 0.9)),
        donate_argnums=(0, 1),
    )
    params, average = step(params, average)
    np.testing.assert_array_equal(params["w"], 2.0)
    np.testing.assert_array_equal(average["w"], 1.0)
