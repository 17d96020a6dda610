"""Batch normalisation by the statistics of the batch, with a hand-written gradient.

Nothing but the input and two numbers a channel is kept for the backward pass, and of
each pass all sums are taken together: on many devices one message, not three.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    dtype: jnp.dtype,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises over all but the first and the last axis.

    Reverse mode only (`jax.jvp` raises). Computed in float32 or wider. Of a narrower
    `x` the variance is ``E[x^2] - E[x]^2``, one pass: what that loses in float32 is far
    below the rounding of `x` itself. Else it is ``E[(x - E[x])^2]``.

    Args:
      x: [G, ..., C], G groups with statistics of their own.
      scale: [C].
      bias: [C].
      epsilon: added to the variance.
      dtype: of the result.

    Returns:
      The result, and mean and biased variance [G, C], which have no gradient.
    """
    return _forward(x, scale, bias, epsilon, dtype)[0]


def _forward(x, scale, bias, epsilon, dtype):
    y, axes = _widened(x), _inner(x)
    mean = y.mean(axes)
    if y.dtype == x.dtype:
        var = jnp.square(y - _spread(mean, x)).mean(axes)
    else:
        var = jnp.maximum(jnp.square(y).mean(axes) - jnp.square(mean), 0)
    rate = lax.rsqrt(var + epsilon)
    result = (y - _spread(mean, x)) * _spread(rate * scale, x) + bias
    return (result.astype(dtype), mean, var), (x, mean, rate, scale)


def _backward(epsilon, dtype, residuals, gradients):
    del epsilon, dtype
    x, mean, rate, scale = residuals
    axes, dy = _inner(x), _widened(gradients[0])
    count = x.size // mean.size
    centred = _widened(x) - _spread(mean, x)
    sums = dy.sum(axes)
    products = (dy * centred).sum(axes) * rate
    slope = products * rate / count
    dx = dy - _spread(sums / count, x) - centred * _spread(slope, x)
    dx = (dx * _spread(rate * scale, x)).astype(x.dtype)
    return dx, products.sum(0).astype(scale.dtype), sums.sum(0).astype(scale.dtype)


batch_norm.defvjp(_forward, _backward)


def _widened(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _inner(x):
    return tuple(range(1, x.ndim - 1))


def _spread(values, x):
    """[G, C] -> [G, 1, ..., 1, C]."""
    return values.reshape(values.shape[0], *(1,) * (x.ndim - 2), values.shape[1])
