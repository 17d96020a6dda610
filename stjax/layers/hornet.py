"""Recursive gated convolution, HorNet (Rao et al., NeurIPS 2022, 2207.14284)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UserError
from stjax.layers.common import (
    DropPath,
    Dtype,
    conv,
    fan_out_init,
    gelu,
    layer_norm,
    layer_scale,
    trunc_normal_init,
)


class GnConv(nn.Module):
    """Interactions of growing order: widths D / 2^(order-1) … D / 2, D.

    Each step multiplies a 1x1 projection of what is known so far by the next slice of
    one depthwise 7x7 convolution.

    Attributes:
      order: number of multiplications.
    """

    order: int = 4
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        if d % 2 ** (self.order - 1):
            raise UserError(
                f"translator 'hornet' needs widths (hid_t and T * hid_s) divisible by "
                f"{2 ** (self.order - 1)}, got {d}"
            )
        dims = [d // 2**i for i in reversed(range(self.order))]
        kw = {"kernel_init": fan_out_init(), "dtype": self.dtype}
        y = conv(d, 2 * d, 1, name="proj_in", **kw)(x)
        gate, rest = jnp.split(y, [dims[0]], axis=-1)
        n = sum(dims)
        depthwise = {"groups": n, "kernel_init": fan_out_init(n), "dtype": self.dtype}
        rest = conv(n, n, 7, name="dwconv", **depthwise)(rest)
        first, *others = jnp.split(rest, np.cumsum(dims[:-1]), axis=-1)
        y = gate * first
        for i, other in enumerate(others):
            y = conv(dims[i], dims[i + 1], 1, name=f"pws_{i}", **kw)(y) * other
        return conv(d, d, 1, name="proj_out", **kw)(y)


class HorNetBlock(nn.Module):
    """Pre-norm block of gnConv and an MLP, layer scales of 1e-6 at birth.

    OpenSTL's ``HorNetSubBlock`` (LayerNorm epsilon 1e-6).
    """

    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        drop_path = DropPath(self.drop_path_rate)
        y = layer_norm(1e-6, self.dtype, "norm1")(x)
        y = GnConv(dtype=self.dtype, name="gnconv")(y)
        x = x + drop_path(layer_scale(self, "gamma1", y, 1e-6), train=train)
        y = layer_norm(1e-6, self.dtype, "norm2")(x)
        kw = {"kernel_init": trunc_normal_init, "dtype": self.dtype}
        d = x.shape[-1]
        y = gelu(nn.Dense(int(d * self.mlp_ratio), name="pwconv1", **kw)(y))
        y = nn.Dense(d, name="pwconv2", **kw)(y)
        return x + drop_path(layer_scale(self, "gamma2", y, 1e-6), train=train)
