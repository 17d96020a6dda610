"""The spatial half of SimVP: encoder and decoder, frame by frame.

Names follow OpenSTL's ``simvp_model.py``.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import Dtype, conv, trunc_normal_init
from stjax.layers.remat import rematerialised
from stjax.ops.shuffle import pixel_shuffle
from stjax.sharding.activations import constrain_rows


class BasicConv2d(nn.Module):
    """Convolution (or sub-pixel up-sampling by 2), GroupNorm of 2 groups, SiLU."""

    features: int
    kernel_size: int
    stride: int = 1
    upsample: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]."""
        k, s = self.kernel_size, self.stride
        layer = conv(
            x.shape[-1],
            self.features * (4 if self.upsample else 1),
            k,
            strides=s,
            padding=k // 2 if self.upsample else (k - s + 1) // 2,
            kernel_init=trunc_normal_init,
            dtype=self.dtype,
            name="conv_0" if self.upsample else "conv",
        )
        y = layer(x)
        if self.upsample:
            y = pixel_shuffle(y)
        y = nn.GroupNorm(
            2, epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="norm"
        )(y)
        return nn.silu(y)


class ConvSC(nn.Module):
    """One layer of the encoder (stride 1 or 2) or decoder (up-sampling or not)."""

    features: int
    kernel_size: int
    stride: int = 1
    upsample: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]."""
        return BasicConv2d(
            self.features,
            self.kernel_size,
            self.stride,
            self.upsample,
            self.dtype,
            name="conv",
        )(x)


def resamplings(n: int) -> tuple[bool, ...]:
    """Which of `n` layers change resolution: no, yes, no, yes …"""
    return tuple(i % 2 == 1 for i in range(n // 2 * 2))


class Encoder(nn.Module):
    """`n_s` ConvSC layers; every second one halves the resolution."""

    hid_s: int
    n_s: int
    kernel_size: int
    remat: str = "none"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[N, H, W, C] -> ([N, h, w, hid_s], the skip [N, H, W, hid_s])."""
        skip, layer = None, rematerialised(ConvSC, self.remat)
        for i, down in enumerate(resamplings(self.n_s)):
            kw = {"stride": 1 + down, "dtype": self.dtype, "name": f"enc_{i}"}
            x = constrain_rows(layer(self.hid_s, self.kernel_size, **kw)(x))
            skip = x if i == 0 else skip
        return x, skip


class Decoder(nn.Module):
    """`n_s` ConvSC layers upwards; the last one sees the skip added; 1x1 readout."""

    hid_s: int
    n_s: int
    kernel_size: int
    out_channels: int
    remat: str = "none"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """[N, h, w, hid_s], [N, H, W, hid_s] -> [N, H, W, C_out]."""
        ups = resamplings(self.n_s)[::-1]
        layer = rematerialised(ConvSC, self.remat)
        for i, up in enumerate(ups):
            x = x + skip if i == len(ups) - 1 else x
            kw = {"upsample": up, "dtype": self.dtype, "name": f"dec_{i}"}
            x = constrain_rows(layer(self.hid_s, self.kernel_size, **kw)(x))
        readout = conv(
            self.hid_s, self.out_channels, 1, dtype=self.dtype, name="readout"
        )
        return readout(x)
