"""The Vision Transformer block (Dosovitskiy et al., 2010.11929) as a translator."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import DropPath, Dtype, layer_norm
from stjax.layers.mlp import Mlp
from stjax.layers.self_attention import SelfAttention
from stjax.sharding.activations import fold, splits_rows, unfold


class ViTBlock(nn.Module):
    """Pre-norm attention of 8 heads over the h * w positions, and an MLP.

    No position embedding. OpenSTL's ``ViTSubBlock`` (LayerNorm epsilon 1e-5).
    """

    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        shape, d = x.shape, x.shape[-1]
        drop_path = DropPath(self.drop_path_rate)
        x = fold(x)
        y = layer_norm(1e-5, self.dtype, "norm1")(x)
        y = SelfAttention(dtype=self.dtype, spread=splits_rows(shape), name="attn")(y)
        x = x + drop_path(y, train=train)
        y = layer_norm(1e-5, self.dtype, "norm2")(x)
        y = Mlp(int(d * self.mlp_ratio), self.dtype, name="mlp")(y)
        return unfold(x + drop_path(y, train=train), shape)
