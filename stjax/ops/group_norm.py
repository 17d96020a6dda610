"""GroupNorm and SiLU in one operation, with a hand-written gradient.

Memory is what it costs: forward reads the input twice and writes the result, backward
reads input and incoming gradient twice and writes a gradient; nothing but the input and
two numbers a group is kept. Automatic differentiation keeps float32 arrays of the
input's size and passes over them a dozen times. Sums are taken for each channel first
and then, in a tiny array, for each group: reshaping [.., C] to [.., groups, C / groups]
would leave most lanes of a TPU empty. XLA:CPU has a form of its own,
`stjax.ops.group_norm_cpu`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.ops import group_norm_cpu

_PLACES = (1, 2)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def group_norm_silu(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    groups: int,
    epsilon: float = 1e-5,
    copies: int = 1,
) -> jax.Array:
    """``silu(GroupNorm(x))``; reverse mode only (`jax.jvp` raises).

    Statistics are float32. Of a narrower `x` the variance is ``E[x^2] - E[x]^2``, one
    pass: what that loses in float32 is far below the rounding of `x` itself. Of a
    float32 `x` it is ``E[(x - E[x])^2]``.

    Args:
      x: [N, H, W, copies * C]; channel ``i * C + c`` is channel c at another place
        (pixels folded into channels), so that all copies share statistics, scale and
        bias.
      scale: [C].
      bias: [C].
      groups: of channels, neighbours of one copy.
      epsilon: added to the variance.
      copies: of the channels.

    Returns:
      The shape and type of `x`.
    """
    return _forward(x, scale, bias, groups, epsilon, copies)[0]


def _forward(x, scale, bias, groups, epsilon, copies):
    given = {"groups": groups, "epsilon": epsilon, "copies": copies}
    cpu = partial(group_norm_cpu.forward, **given)
    plain = partial(_plain_forward, **given)
    y, *kept = lax.platform_dependent(x, scale, bias, cpu=cpu, default=plain)
    return y, (x, *kept, scale, bias)


def _plain_forward(x, scale, bias, *, groups, epsilon, copies):
    share = partial(_share, groups=groups, copies=copies)
    y = x.astype(jnp.float32)
    mean = share(y.mean(_PLACES))
    if x.dtype == jnp.float32:
        var = share(jnp.square(y - _wide(mean)).mean(_PLACES))
    else:
        var = jnp.maximum(share(jnp.square(y).mean(_PLACES)) - jnp.square(mean), 0)
    rate = lax.rsqrt(var + epsilon)
    z = _normal(x, mean, rate, scale, bias, copies)
    return (z * jax.nn.sigmoid(z)).astype(x.dtype), mean, rate


def _backward(groups, epsilon, copies, residuals, dy):
    del epsilon
    given = {"groups": groups, "copies": copies}
    cpu = partial(group_norm_cpu.backward, **given)
    plain = partial(_plain_backward, **given)
    return lax.platform_dependent(*residuals, dy, cpu=cpu, default=plain)


def _plain_backward(x, mean, rate, scale, bias, dy, *, groups, copies):
    # Else what makes it may be computed and kept in float32.
    dy = lax.optimization_barrier(dy)
    share = partial(_share, groups=groups, copies=copies)
    wide_scale = jnp.tile(scale, copies)
    z = _normal(x, mean, rate, scale, bias, copies)
    gate = jax.nn.sigmoid(z)
    dz = dy.astype(jnp.float32) * (gate * (1 + z * (1 - gate)))
    centred = x.astype(jnp.float32) - _wide(mean)
    sums = dz.sum(_PLACES)  # [N, copies * C]
    products = (dz * centred).sum(_PLACES) * rate
    places = x.shape[1] * x.shape[2]
    # The mean of the gradient over a group, and that along the normalised input.
    offset = share(sums * wide_scale / places)
    slope = share(products * wide_scale / places) * rate
    dx = dz * wide_scale - _wide(offset) - centred * _wide(slope)
    dscale, dbias = (s.reshape(-1, scale.size).sum(0) for s in (products, sums))
    dx = (dx * _wide(rate)).astype(x.dtype)
    return dx, dscale.astype(scale.dtype), dbias.astype(bias.dtype)


group_norm_silu.defvjp(_forward, _backward)


def _normal(x, mean, rate, scale, bias, copies):
    """Normalised, scaled and shifted, float32: a multiplication and an addition."""
    gain = rate * jnp.tile(scale, copies)
    return (x.astype(jnp.float32) - _wide(mean)) * _wide(gain) + jnp.tile(bias, copies)


def _share(values, *, groups, copies):
    """[N, copies * C] -> the same, means over groups and copies."""
    n, channels = values.shape
    parts = values.reshape(n, copies, groups, -1)
    means = parts.mean((1, 3), keepdims=True)
    return jnp.broadcast_to(means, parts.shape).reshape(n, channels)


def _wide(values):
    """[N, C] -> [N, 1, 1, C]."""
    return values[:, None, None]
