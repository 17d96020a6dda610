"""Options for XLA on CPU: what it takes, and where they go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax import compiling
from stjax.ops.conv import conv_nd


def test_what_xla_does_not_know_is_left_out():
    assert not compiling._known({"xla_cpu_no_such_option": 1})


def test_only_for_cpus(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert compiling.compiler_options() is None


def test_the_same_result():
    options = compiling.compiler_options()
    if options is None:
        pytest.skip("nothing that this machine profits from")
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in SHAPES)

    def f(x, w):
        y = conv_nd(x, w, (1, 1), ((1, 1), (1, 1)))
        return jax.nn.softmax(y @ y[0, 0].T / 1000, axis=-1)

    plain, told = jax.jit(f)(x, w), jax.jit(f, compiler_options=options)(x, w)
    np.testing.assert_allclose(told, plain, rtol=1e-4, atol=1e-6)


SHAPES = (2, 8, 8, 16), (3, 3, 16, 32)
