"""GroupNorm with SiLU against Flax's and PyTorch's, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.ops import group_norm_cpu
from stjax.ops.group_norm import _plain_backward, _plain_forward, group_norm_silu


def arrays(copies, offset=3.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 5, copies * 8)) * 2 + offset
    dy = rng.standard_normal(x.shape)
    scale, bias = 1 + 0.3 * rng.standard_normal(8), rng.standard_normal(8)
    x, dy = (jnp.asarray(v, dtype) for v in (x, dy))
    return x, dy, jnp.float32(scale), jnp.float32(bias)


def apart(x, copies):
    """Copies of the channels as further columns."""
    n, h, w, c = x.shape
    return x.reshape(n, h, w * copies, c // copies)


def plain(x, scale, bias, copies):
    norm = nn.GroupNorm(2, epsilon=1e-5, use_fast_variance=False)
    variables = {"params": {"scale": scale, "bias": bias}}
    return nn.silu(norm.apply(variables, apart(x, copies))).reshape(x.shape)


def both(f, x, scale, bias, dy):
    y, pull = jax.vjp(f, x, scale, bias)
    return y, *pull(dy)


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_as_flax(copies):
    x, dy, scale, bias = arrays(copies)
    ours = both(lambda *a: group_norm_silu(*a, 2, 1e-5, copies), x, scale, bias, dy)
    theirs = both(lambda *a: plain(*a, copies), x, scale, bias, dy)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_forms_agree(copies):
    x, dy, scale, bias = arrays(copies)
    given = {"groups": 2, "copies": copies}
    found = []
    for forward, backward in (
        (_plain_forward, _plain_backward),
        (group_norm_cpu.forward, group_norm_cpu.backward),
    ):
        y, mean, rate = forward(x, scale, bias, epsilon=1e-5, **given)
        found.append((y, *backward(x, mean, rate, scale, bias, dy, **given)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_as_torch():
    torch = pytest.importorskip("torch")
    x, dy, scale, bias = arrays(1)
    leaves = [torch.tensor(np.array(v), requires_grad=True) for v in (x, scale, bias)]
    first = leaves[0].permute(0, 3, 1, 2)
    y = torch.nn.functional.group_norm(first, 2, *leaves[1:], 1e-5)
    y = torch.nn.functional.silu(y).permute(0, 2, 3, 1)
    y.backward(torch.tensor(np.array(dy)))
    ours = both(lambda *a: group_norm_silu(*a, 2), x, scale, bias, dy)
    theirs = (y.detach(), *(leaf.grad for leaf in leaves))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_one_pass_loses_nothing_of_a_bfloat16_input(offset):
    """As far from the truth as rounding its own result is, even off centre."""
    x, dy, scale, bias = arrays(2, offset, jnp.bfloat16)
    exact = (v.astype(jnp.float32) for v in (x, dy))
    x32, dy32 = exact
    ours = both(lambda *a: group_norm_silu(*a, 2, 1e-5, 2), x, scale, bias, dy)
    theirs = both(lambda *a: plain(*a, 2), x32, scale, bias, dy32)
    for a, b in zip(ours, theirs, strict=True):
        # Half a unit of the last of 8 bits; sums over float32 are closer still.
        limit = 2.0**-8 if a.dtype == jnp.bfloat16 else 1e-4
        np.testing.assert_allclose(np.float32(a), b, rtol=limit, atol=limit / 8)


def test_constant_input():
    """A group without variance: what is added to it alone divides."""
    x = jnp.full((1, 2, 2, 4), 7.0, jnp.bfloat16)
    y, pull = jax.vjp(lambda x: group_norm_silu(x, jnp.ones(4), jnp.ones(4), 2), x)
    np.testing.assert_allclose(np.float32(y), jax.nn.silu(1.0), rtol=4e-3)
    assert np.isfinite(np.float32(pull(y)[0])).all()
