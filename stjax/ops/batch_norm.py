"""Batch normalisation by the statistics of the batch, with a hand-written gradient.

Nothing but the input and two numbers a channel is kept for the backward pass, and of
each pass all sums are taken together: on many devices one message, not three.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.ops.folding import fold, foldable, unfold


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    dtype: jnp.dtype,
    folded: bool = False,
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
      folded: what comes before and after has columns folded on a TPU, where they can
        be (`stjax.ops.folding`).

    Returns:
      The result, and mean and biased variance [G, C], which have no gradient.
    """
    return _forward(x, scale, bias, epsilon, dtype, folded)[0]


def _forward(x, scale, bias, epsilon, dtype, folded):
    plain = partial(_normalised, epsilon=epsilon, dtype=dtype)

    def tpu(x, scale, bias):
        y, *kept = plain(fold(x), scale, bias, copies=2)
        return unfold(y), *kept

    y, mean, var, rate = _choose(x, folded, tpu, plain)(x, scale, bias)
    return (y, mean, var), (x, mean, rate, scale)


def _backward(epsilon, dtype, folded, residuals, gradients):
    del epsilon, dtype

    def tpu(x, mean, rate, scale, dy):
        # Else float32 copies of both are kept from one pass to the next.
        x, dy = lax.optimization_barrier((fold(x), fold(dy)))
        dx, *sums = _gradients(x, mean, rate, scale, dy, copies=2)
        return unfold(dx), *sums

    x, _, _, scale = residuals
    gradient = _choose(x, folded, tpu, _gradients)
    dx, sums, products = gradient(*residuals, gradients[0])
    return dx, products.sum(0).astype(scale.dtype), sums.sum(0).astype(scale.dtype)


batch_norm.defvjp(_forward, _backward)


def _choose(x, folded, tpu, plain):
    if not (folded and foldable(x.shape)):
        return plain
    return partial(lax.platform_dependent, tpu=tpu, default=plain)


def _normalised(x, scale, bias, *, epsilon, dtype, copies=1):
    """The result, and mean, variance and 1 / deviation [G, C]."""
    y, axes = _widened(x), _inner(x)
    mean = _mean(y.mean(axes), copies)
    if y.dtype == x.dtype:
        var = _mean(jnp.square(y - _spread(mean, x)).mean(axes), copies)
    else:
        var = _mean(jnp.square(y).mean(axes), copies) - jnp.square(mean)
        var = jnp.maximum(var, 0)
    rate = lax.rsqrt(var + epsilon)
    y = (_widened(x) - _spread(mean, x)) * _spread(rate * scale, x)
    y += jnp.tile(bias, copies)
    return y.astype(dtype), mean, var, rate


def _gradients(x, mean, rate, scale, dy, *, copies=1):
    """Of the input, and for each group [G, C] of bias and scale."""
    axes, dy = _inner(x), _widened(dy)
    count = x.size // mean.size
    centred = _widened(x) - _spread(mean, x)
    sums = copies * _mean(dy.sum(axes), copies)
    products = copies * _mean((dy * centred).sum(axes), copies) * rate
    slope = products * rate / count
    dx = dy - _spread(sums / count, x) - centred * _spread(slope, x)
    dx = (dx * _spread(rate * scale, x)).astype(x.dtype)
    return dx, sums, products


def _mean(values, copies):
    """[G, copies * C] -> [G, C]."""
    return values.reshape(len(values), copies, -1).mean(1)


def _widened(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _inner(x):
    return tuple(range(1, x.ndim - 1))


def _spread(values, x):
    """[G, C] -> [G, 1, ..., 1, channels of x]."""
    values = jnp.tile(values, x.shape[-1] // values.shape[1])
    return values.reshape(len(values), *(1,) * (x.ndim - 2), -1)
