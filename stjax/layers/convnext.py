"""The ConvNeXt block (Liu et al., CVPR 2022, arXiv 2201.03545) as a translator."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import (
    DropPath,
    Dtype,
    conv,
    fan_out_init,
    layer_norm,
    layer_scale,
)
from stjax.layers.mlp import ConvMlp


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, 1x1 MLP, layer scale of 1e-6 at birth, residual.

    OpenSTL's ``ConvNeXtSubBlock`` (timm's block; LayerNorm epsilon 1e-6).
    """

    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        kw = {"groups": d, "kernel_init": fan_out_init(d), "dtype": self.dtype}
        y = conv(d, d, 7, name="conv_dw", **kw)(x)
        y = layer_norm(1e-6, self.dtype, "norm")(y)
        hidden = int(d * self.mlp_ratio)
        y = ConvMlp(hidden, fan_out_init(), self.dtype, name="mlp")(y)
        y = layer_scale(self, "gamma", y, 1e-6)
        return x + DropPath(self.drop_path_rate)(y, train=train)
