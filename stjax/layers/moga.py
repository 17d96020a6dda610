"""Multi-order gated aggregation, MogaNet (Li et al., ICLR 2024, 2211.03295).

Layer scales and sigmas keep the originals' shape (1, D, 1, 1).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.layers.common import BatchNorm, DropPath, Dtype, conv, fan_out_init, gelu


def _per_channel(module: nn.Module, name: str, d: int, dtype: Dtype) -> jax.Array:
    """A parameter of `module`, 1e-5 at birth, for each of `d` channels."""
    init = nn.initializers.constant(1e-5)
    return module.param(name, init, (1, d, 1, 1)).reshape(d).astype(dtype)


def _depthwise(d: int, k: int, dilation: int, dtype: Dtype, name: str) -> nn.Conv:
    kw = {"groups": d, "kernel_init": fan_out_init(d), "dtype": dtype}
    return conv(d, d, k, dilation=dilation, name=name, **kw)


class MultiOrderDWConv(nn.Module):
    """Depthwise 5x5, then on parts of the channels wider ones; 1x1.

    Of the channels split 1 : 3 : 4 the second part goes through a 5x5 dilated by 2, the
    third through a 7x7 dilated by 3.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D], D divisible by 8."""
        d = x.shape[-1]
        if d % 8:
            raise UserError(
                "translator 'moga' needs widths (hid_t and T * hid_s) divisible by 8, "
                f"got {d}"
            )
        x = _depthwise(d, 5, 1, self.dtype, "DW_conv0")(x)
        low, middle, high = jnp.split(x, [d // 8, d // 2], axis=-1)
        middle = _depthwise(3 * d // 8, 5, 2, self.dtype, "DW_conv1")(middle)
        high = _depthwise(d // 2, 7, 3, self.dtype, "DW_conv2")(high)
        x = jnp.concatenate([low, middle, high], axis=-1)
        kw = {"kernel_init": fan_out_init(), "dtype": self.dtype}
        return conv(d, d, 1, name="PW_conv", **kw)(x)


class GatedAggregation(nn.Module):
    """A SiLU gate times the SiLU of multi-order features, plus the input."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        kw = {"kernel_init": fan_out_init(), "dtype": self.dtype}
        y = conv(d, d, 1, name="proj_1", **kw)(x)
        mean = y.mean((1, 2), keepdims=True, dtype=jnp.float32).astype(y.dtype)
        y = nn.silu(y + _per_channel(self, "sigma", d, y.dtype) * (y - mean))
        gate = nn.silu(conv(d, d, 1, name="gate", **kw)(y))
        value = nn.silu(MultiOrderDWConv(self.dtype, name="value")(y))
        return conv(d, d, 1, name="proj_2", **kw)(gate * value) + x


class ChannelAggregationFFN(nn.Module):
    """1x1, depthwise 3x3, GELU, subtraction of a projection to one channel, 1x1."""

    mlp_ratio: float = 8.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        hidden = int(d * self.mlp_ratio)
        kw = {"kernel_init": fan_out_init(), "dtype": self.dtype}
        y = conv(d, hidden, 1, name="fc1", **kw)(x)
        y = gelu(_depthwise(hidden, 3, 1, self.dtype, "dwconv")(y))
        common = gelu(conv(hidden, 1, 1, name="decompose", **kw)(y))
        y = y + _per_channel(self, "sigma", hidden, y.dtype) * (y - common)
        return conv(hidden, d, 1, name="fc2", **kw)(y)


class MogaBlock(nn.Module):
    """BN, gated aggregation, layer scale; BN, channel aggregation, layer scale.

    OpenSTL's ``MogaSubBlock``; the layer scales are 1e-5 at birth.
    """

    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        drop_path = DropPath(self.drop_path_rate)
        y = BatchNorm(dtype=self.dtype, name="norm1")(x, train=train)
        y = GatedAggregation(self.dtype, name="attn")(y)
        y = y * _per_channel(self, "layer_scale_1", d, y.dtype)
        x = x + drop_path(y, train=train)
        y = BatchNorm(dtype=self.dtype, name="norm2")(x, train=train)
        y = ChannelAggregationFFN(self.mlp_ratio, self.dtype, name="mlp")(y)
        y = y * _per_channel(self, "layer_scale_2", d, y.dtype)
        return x + drop_path(y, train=train)
