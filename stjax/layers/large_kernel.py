"""The block that TAU, gSTA and VAN share: large-kernel attention and MixMlp.

Guo et al., "Visual Attention Network" (arXiv 2202.09741); Tan et al., SimVP v2 (arXiv
2211.12509). Frames are stacked along channels: [B, h, w, D], D = T * C, time major.
Submodule names follow OpenSTL's ``GASubBlock``.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import BatchNorm, DropPath, Dtype, conv, fan_out_init, gelu


def large_kernel(
    x: jax.Array, features: int, *, fan_out: bool, dtype: Dtype
) -> jax.Array:
    """A large kernel in three steps: 5x5, 7x7 dilated by 3 (both depthwise), 1x1.

    To be called inside a compact method; makes conv0, conv_spatial and conv1 there.

    Args:
      x: [B, h, w, D].
      features: of the 1x1 convolution.
      fan_out: initialise N(0, 2 / fan_out) instead of PyTorch's default.
      dtype: compute dtype.

    Returns:
      [B, h, w, features].
    """
    d = x.shape[-1]
    init = fan_out_init(d) if fan_out else None
    kw = {"groups": d, "kernel_init": init, "dtype": dtype}
    x = conv(d, d, 5, name="conv0", **kw)(x)
    x = conv(d, d, 7, dilation=3, name="conv_spatial", **kw)(x)
    init = fan_out_init() if fan_out else None
    return conv(d, features, 1, kernel_init=init, dtype=dtype, name="conv1")(x)


class SpatialAttention(nn.Module):
    """1x1, GELU, a gating unit, 1x1, plus the input.

    Attributes:
      gate: class of the gating unit, [B, h, w, D] -> the same.
      fan_out: initialise N(0, 2 / fan_out) instead of PyTorch's default.
    """

    gate: Callable[..., nn.Module]
    fan_out: bool
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        init = fan_out_init() if self.fan_out else None
        kw = {"kernel_init": init, "dtype": self.dtype}
        y = gelu(conv(d, d, 1, name="proj_1", **kw)(x))
        y = self.gate(dtype=self.dtype, name="spatial_gating_unit")(y)
        return conv(d, d, 1, name="proj_2", **kw)(y) + x


class DWConv(nn.Module):
    """Depthwise 3x3 convolution (a module of its own as in the original's keys)."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        kw = {"groups": d, "kernel_init": fan_out_init(d), "dtype": self.dtype}
        return conv(d, d, 3, name="dwconv", **kw)(x)


class MixMlp(nn.Module):
    """1x1 to ``mlp_ratio * D``, depthwise 3x3, GELU, 1x1 back."""

    mlp_ratio: float = 8.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        hidden = int(d * self.mlp_ratio)
        kw = {"kernel_init": fan_out_init(), "dtype": self.dtype}
        y = conv(d, hidden, 1, name="fc1", **kw)(x)
        y = gelu(DWConv(self.dtype, name="dwconv")(y))
        return conv(hidden, d, 1, name="fc2", **kw)(y)


class LargeKernelBlock(nn.Module):
    """Pre-norm residual block: BN, attention, layer scale; BN, MixMlp, layer scale.

    Attributes:
      gate: class of the gating unit of the attention.
      fan_out: initialise the attention N(0, 2 / fan_out) (gSTA, VAN).
      mlp_ratio: hidden width of the MLP over D.
      drop_path_rate: probability of dropping each residual branch of a sample.
    """

    gate: Callable[..., nn.Module]
    fan_out: bool = True
    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        scale_init = nn.initializers.constant(1e-2)
        drop_path = DropPath(self.drop_path_rate, name="drop_path")

        def scaled(name, y):
            scale = self.param(name, scale_init, (x.shape[-1],))
            return drop_path(y * scale.astype(y.dtype), train=train)

        y = BatchNorm(dtype=self.dtype, name="norm1")(x, train=train)
        y = SpatialAttention(self.gate, self.fan_out, self.dtype, name="attn")(y)
        x = x + scaled("layer_scale_1", y)
        y = BatchNorm(dtype=self.dtype, name="norm2")(x, train=train)
        y = MixMlp(self.mlp_ratio, self.dtype, name="mlp")(y)
        return x + scaled("layer_scale_2", y)
