"""GroupNorm and SiLU as XLA:CPU computes them quickly; see `stjax.ops.group_norm`.

A number for each group has to be known for each channel. Broadcast and reshaped inside
the loop over pixels, its index is a division for every value, and LLVM does not
vectorise the loop: the exponential then takes 20 times as long. So numbers go from
channels to groups and back as products with constant matrices, results that XLA does
not merge into the loops. Copies of the channels become further columns.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_PLACES = (1, 2)


def forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    groups: int,
    epsilon: float,
    copies: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``silu(GroupNorm(x))``, and mean and inverse deviation [N, copies * C].

    Args: those of `stjax.ops.group_norm.group_norm_silu`.
    """
    together, apart = _matrices(groups, scale.size)
    y = _columns(x, copies)
    mean = y.mean(_PLACES) @ together
    of_channel = mean @ apart
    var = jnp.square(y - _spread(of_channel)).mean(_PLACES) @ together
    rate = lax.rsqrt(var + epsilon)
    gain, shift = _line(mean, rate, scale, bias, apart)
    z = y * _spread(gain) + _spread(shift)
    result = (z / (1 + jnp.exp(-z))).astype(x.dtype).reshape(x.shape)
    return result, *(jnp.tile(v, copies) for v in (of_channel, rate @ apart))


def backward(
    x: jax.Array,
    mean: jax.Array,
    rate: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    dy: jax.Array,
    *,
    groups: int,
    copies: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients by x, scale and bias."""
    # Else what the forward pass has computed on its way would be kept for this one.
    x, dy = lax.optimization_barrier((x, dy))
    together, apart = _matrices(groups, scale.size)
    mean, rate = mean[:, : scale.size], rate[:, : scale.size]
    group_rate = rate @ together
    gain, shift = _line(mean @ together, group_rate, scale, bias, apart)
    y = _columns(x, copies)
    z = y * _spread(gain) + _spread(shift)
    gate = 1 / (1 + jnp.exp(-z))
    dz = _columns(dy, copies) * (gate * (1 + z * (1 - gate)))
    sums = dz.sum(_PLACES)
    products = (dz * (y - _spread(mean))).sum(_PLACES) * rate
    weight = scale.astype(jnp.float32) / (y.shape[1] * y.shape[2])
    # The mean of the gradient over a group, and that along the normalised input.
    offset = ((sums * weight) @ together * group_rate) @ apart
    slope = ((products * weight) @ together * jnp.square(group_rate)) @ apart
    dx = dz * _spread(gain) - y * _spread(slope) + _spread(mean * slope - offset)
    dscale, dbias = (s.sum(0) for s in (products, sums))
    dx = dx.astype(x.dtype).reshape(x.shape)
    return dx, dscale.astype(scale.dtype), dbias.astype(bias.dtype)


def _line(mean, rate, scale, bias, apart):
    """What [N, C] x is multiplied by, and what is added."""
    scales = apart * scale
    inputs = jnp.concatenate([-mean * rate, jnp.ones_like(rate[:, :1])], axis=1)
    weights = jnp.concatenate([scales, bias[None].astype(scales.dtype)])
    return rate @ scales, inputs @ weights


def _matrices(groups, channels):
    """[C, groups] that takes means, [groups, C] that spreads."""
    group = np.arange(channels) // (channels // groups)
    apart = (group == np.arange(groups)[:, None]).astype(np.float32)
    return apart.T / np.float32(channels // groups), apart


def _columns(x, copies):
    """[N, H, W, copies * C] -> [N, H, copies * W, C], float32."""
    n, h, w, channels = x.shape
    return x.astype(jnp.float32).reshape(n, h, w * copies, channels // copies)


def _spread(values):
    """[N, C] -> [N, 1, 1, C]."""
    return values[:, None, None]
