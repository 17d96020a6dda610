"""PhyCell (Le Guen and Thome, 2020): a learned partial differential equation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from stjax.layers.common import conv

Array = jax.Array
ORDERS = 7  # the filters are 7 x 7 and stand for derivatives of orders 0..6


def moments(kernels: Array) -> Array:
    """Moment matrices [..., 7, 7] of filters K [..., 7, 7] (paper, eq. 7).

    M[i, j] = sum_ab K[a, b] (a-3)^i / i! (b-3)^j / j!: the weight of the derivative
    of order i along rows and j along columns in the Taylor expansion of the filter.
    """
    offsets = np.arange(ORDERS) - ORDERS // 2
    basis = np.stack([offsets**i / math.factorial(i) for i in range(ORDERS)])
    basis = jnp.asarray(basis, jnp.float32)
    return jnp.einsum(
        "ia,jb,...ab->...ij", basis, basis, kernels, precision=lax.Precision.HIGHEST
    )


def moment_loss(kernel: Array) -> Array:
    """How far filters [7,7,C,49] are from the 49 partial derivatives.

    Filter o of each input channel should have the one moment (o // 7, o % 7): the
    mean of squares over filters and moments, summed over the input channels.
    """
    found = moments(kernel.astype(jnp.float32).transpose(2, 3, 0, 1))
    wanted = jnp.eye(ORDERS**2).reshape(ORDERS**2, ORDERS, ORDERS)
    return jnp.sum(jnp.mean((found - wanted) ** 2, (1, 2, 3)))


class Filters(nn.Module):
    """The learned differential operator of PhyCell: 49 filters, mixed back."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, h: Array) -> Array:
        """[B,H,W,C] -> the same shape."""
        filters = ORDERS**2
        y = conv(h.shape[-1], filters, ORDERS, dtype=self.dtype, name="conv1")(h)
        y = nn.GroupNorm(
            ORDERS, epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="bn1"
        )(y)
        return conv(filters, h.shape[-1], 1, dtype=self.dtype, name="conv2")(y)


class PhyCell(nn.Module):
    """Prediction by a differential operator, corrected by what is seen."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, h: Array) -> Array:
        """x and h [B,H,W,C] -> next h."""
        both = jnp.concatenate([x.astype(h.dtype), h], -1)
        width = h.shape[-1]
        gate = conv(2 * width, width, 3, dtype=self.dtype, name="convgate")(both)
        predicted = h + Filters(self.dtype, name="F")(h)
        return predicted + nn.sigmoid(gate) * (x - predicted)


class PhysicalBranch(nn.Module):
    """One PhyCell."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, h: Array) -> Array:
        """x and h [B,H,W,C] -> next h."""
        return PhyCell(self.dtype, name="cell_list_0")(x, h)
