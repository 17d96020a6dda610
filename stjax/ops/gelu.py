"""GELU, exact, with a gradient that keeps nothing but its input."""

import math

import jax
import jax.numpy as jnp
from jax import lax

_HALF_ROOT = math.sqrt(0.5)
_PEAK = 1 / math.sqrt(2 * math.pi)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """``x Phi(x)``, Phi the normal distribution (arXiv 1606.08415), by erf.

    Automatic differentiation would keep several arrays of the size of `x` for the
    backward pass, and `jax.nn.gelu` takes erfc, which costs twice as much. Computed in
    float32 or wider; reverse mode only (`jax.jvp` raises).

    Args:
      x: any shape, a float type.

    Returns:
      The same shape and type.
    """
    wide = _wide(x)
    return (wide * _below(wide)).astype(x.dtype)


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _below(x):
    """Phi."""
    return 0.5 + 0.5 * lax.erf(x * _HALF_ROOT)


def _forward(x):
    return gelu(x), x


def _backward(x, dy):
    wide = _wide(x)
    density = _PEAK * jnp.exp(-0.5 * wide * wide)
    return (((_below(wide) + wide * density) * dy).astype(x.dtype),)


gelu.defvjp(_forward, _backward)
