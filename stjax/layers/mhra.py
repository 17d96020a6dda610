"""UniFormer's blocks for video: position embedding, MHRA and feed-forward network.

Li et al., ICLR 2022 (arXiv 2201.04676). A multi-head relation aggregator (MHRA) mixes
tokens by an affinity: a learned one over a small neighbourhood in shallow layers, which
is a depthwise convolution, and a self-attention over all of space and time in deep
ones. Structure, names and initialisation follow the authors' video code.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import BatchNorm, DropPath, Dtype, conv, layer_norm
from stjax.layers.mlp import ConvMlp, Mlp
from stjax.layers.self_attention import SelfAttention
from stjax.sharding.activations import fold, splits_rows, unfold

EPSILON = 1e-6
"""Of the blocks' LayerNorms; those of the patch embeddings have 1e-5."""


def position_embedding(x: jax.Array, dtype: Dtype) -> jax.Array:
    """Adds a depthwise 3x3x3 convolution of `x` [B, T, H, W, C] (equation 4).

    To be called inside a compact method; the module made there is ``pos_embed``.
    """
    c = x.shape[-1]
    kw = {"ndim": 3, "groups": c, "dtype": dtype, "residual": True}
    return conv(c, c, 3, name="pos_embed", **kw)(x)


class LocalBlock(nn.Module):
    """Local MHRA: BN, 1x1x1, depthwise ``kernel_size``, 1x1x1; no activation between.

    The authors' ``CBlock``.

    Attributes:
      mlp_ratio: hidden width of the feed-forward network over C.
      drop_path_rate: of both residual branches.
      dpe: with the dynamic position embedding.
      kernel_size: odd side of the neighbourhood in time, height and width.
      dtype: compute dtype.
    """

    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    dpe: bool = True
    kernel_size: int = 5
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, rate: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, C]; `rate` replaces drop_path_rate."""
        c, kw = x.shape[-1], {"ndim": 3, "dtype": self.dtype}
        drop_path = DropPath(self.drop_path_rate if rate is None else rate)
        if self.dpe:
            x = position_embedding(x, self.dtype)
        y = BatchNorm(dtype=self.dtype, name="norm1")(x, train=train)
        y = conv(c, c, 1, name="conv1", **kw)(y)
        y = conv(c, c, self.kernel_size, groups=c, name="attn", **kw)(y)
        y = conv(c, c, 1, name="conv2", **kw)(y)
        x = x + drop_path(y, train=train)
        y = BatchNorm(dtype=self.dtype, name="norm2")(x, train=train)
        y = ConvMlp(int(c * self.mlp_ratio), None, self.dtype, name="mlp")(y)
        return x + drop_path(y, train=train)


class GlobalBlock(nn.Module):
    """Global MHRA: self-attention over all T * H * W tokens at once.

    The authors' ``SABlock``. The softmax is float32, and attention beyond
    `stjax.ops.attention.MAX_LOGITS` goes in chunks.

    Attributes:
      head_dim: channels of a head; must divide C.
      mlp_ratio: hidden width of the feed-forward network over C.
      drop_path_rate: of both residual branches.
      dpe: with the dynamic position embedding.
      dtype: compute dtype.
    """

    head_dim: int = 64
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    dpe: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, rate: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, C]; `rate` replaces drop_path_rate."""
        shape = x.shape
        drop_path = DropPath(self.drop_path_rate if rate is None else rate)
        if self.dpe:
            x = position_embedding(x, self.dtype)
        x = fold(x)
        y = layer_norm(EPSILON, self.dtype, "norm1")(x)
        heads = shape[-1] // self.head_dim
        spread = splits_rows(shape)
        y = SelfAttention(heads, self.dtype, spread=spread, name="attn")(y)
        x = x + drop_path(y, train=train)
        return unfold(_feed_forward(self, x, drop_path, train), shape)


class SplitBlock(nn.Module):
    """Divided attention: over the frames of a place, then over the places of a frame.

    The authors' ``SplitSABlock``, of one ablation. As in their code, and unlike
    TimeSformer, the residual of the spatial attention is the block's input, so the
    temporal one acts only through it; drop path drops whole sequences (a place's
    frames, a frame's places); at birth the temporal attention is zero, by zero
    ``qkv`` (and ones in ``proj``).

    Attributes: as of `GlobalBlock`.
    """

    head_dim: int = 64
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    dpe: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, rate: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, C]; `rate` replaces drop_path_rate."""
        b, t, h, w, c = shape = x.shape
        kw = {"heads": c // self.head_dim, "dtype": self.dtype}
        drop_path = DropPath(self.drop_path_rate if rate is None else rate)
        if self.dpe:
            x = position_embedding(x, self.dtype)

        a = x.reshape(b, t, h * w, c).swapaxes(1, 2).reshape(b * h * w, t, c)
        y = layer_norm(EPSILON, self.dtype, "t_norm")(a)
        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        y = SelfAttention(**kw, qkv_init=zeros, proj_init=ones, name="t_attn")(y)
        a = a + drop_path(y, train=train)

        a = a.reshape(b, h * w, t, c).swapaxes(1, 2).reshape(b * t, h * w, c)
        y = layer_norm(EPSILON, self.dtype, "norm1")(a)
        y = SelfAttention(**kw, name="attn")(y)
        x = x.reshape(b * t, h * w, c) + drop_path(y, train=train)
        x = x.reshape(b, t * h * w, c)
        return _feed_forward(self, x, drop_path, train).reshape(shape)


def _feed_forward(block, x, drop_path, train):
    y = layer_norm(EPSILON, block.dtype, "norm2")(x)
    y = Mlp(int(x.shape[-1] * block.mlp_ratio), block.dtype, name="mlp")(y)
    return x + drop_path(y, train=train)
