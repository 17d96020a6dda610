"""UniFormer's image blocks (Li et al., ICLR 2022, 2201.04676) as a translator."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import (
    BatchNorm,
    DropPath,
    Dtype,
    conv,
    fan_out_init,
    layer_norm,
    layer_scale,
)
from stjax.layers.mlp import ConvMlp, Mlp
from stjax.layers.self_attention import SelfAttention
from stjax.sharding.activations import fold, splits_rows, unfold


class UniFormerBlock(nn.Module):
    """Attention over positions where the width stays, convolution where it changes.

    So the first block is always local and the last one where a reduction follows.
    OpenSTL's ``UniformerSubBlock`` (LayerNorm epsilon 1e-5, layer scales of 1e-6 at
    birth in the attention block, 8 heads).
    """

    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    index: int = 0
    resizes: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        drop_path = DropPath(self.drop_path_rate)
        if self.index > 0 and not self.resizes:
            return self._attention(x, drop_path, train)
        return self._local(x, drop_path, train)

    def _local(self, x, drop_path, train):
        d = x.shape[-1]
        depthwise = {"groups": d, "kernel_init": fan_out_init(d), "dtype": self.dtype}
        pointwise = {"kernel_init": fan_out_init(), "dtype": self.dtype}
        x = x + conv(d, d, 3, name="pos_embed", **depthwise)(x)
        y = BatchNorm(dtype=self.dtype, name="norm1")(x, train=train)
        y = conv(d, d, 1, name="conv1", **pointwise)(y)
        y = conv(d, d, 5, name="attn", **depthwise)(y)
        y = conv(d, d, 1, name="conv2", **pointwise)(y)
        x = x + drop_path(y, train=train)
        y = BatchNorm(dtype=self.dtype, name="norm2")(x, train=train)
        hidden = int(d * self.mlp_ratio)
        y = ConvMlp(hidden, fan_out_init(), self.dtype, name="mlp")(y)
        return x + drop_path(y, train=train)

    def _attention(self, x, drop_path, train):
        shape, d = x.shape, x.shape[-1]
        x = x + conv(d, d, 3, groups=d, dtype=self.dtype, name="pos_embed")(x)
        x = fold(x)
        y = layer_norm(1e-5, self.dtype, "norm1")(x)
        y = SelfAttention(dtype=self.dtype, spread=splits_rows(shape), name="attn")(y)
        x = x + drop_path(layer_scale(self, "gamma_1", y, 1e-6), train=train)
        y = layer_norm(1e-5, self.dtype, "norm2")(x)
        y = Mlp(int(d * self.mlp_ratio), self.dtype, name="mlp")(y)
        x = x + drop_path(layer_scale(self, "gamma_2", y, 1e-6), train=train)
        return unfold(x, shape)
