"""The spatial half of SimVP: encoder and decoder, frame by frame.

Names follow OpenSTL's ``simvp_model.py``.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import Dtype, conv, trunc_normal_init
from stjax.layers.remat import rematerialised
from stjax.ops.conv import conv_nd
from stjax.ops.folded_conv import add_bias, folded_conv, folded_pointwise
from stjax.ops.folding import MAX_CHANNELS, fold, unfold
from stjax.ops.group_norm import group_norm_silu
from stjax.ops.shuffle import spread_pixels
from stjax.sharding.activations import constrain_rows


class BasicConv2d(nn.Module):
    """Convolution (or sub-pixel up-sampling by 2), GroupNorm of 2 groups, SiLU.

    Attributes:
      features: channels of the result.
      kernel_size: of the convolution.
      stride: 1 or 2.
      upsample: by 2.
      wide: the input or, with stride 1, the result is large and has few channels: a TPU
        folds its columns, see `stjax.ops.folding`.
      dtype: compute dtype.
    """

    features: int
    kernel_size: int
    stride: int = 1
    upsample: bool = False
    wide: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]."""
        k, s = self.kernel_size, self.stride
        folds = self.wide and _folds(x, self.features)
        convolution = SpatialConv(
            self.features,
            k,
            s,
            padding=k // 2 if self.upsample else (k - s + 1) // 2,
            pixels=4 if self.upsample else 1,
            folds=folds and not self.upsample,
            dtype=self.dtype,
            name="conv_0" if self.upsample else "conv",
        )
        norm = GroupNormSiLU(self.dtype, name="norm")
        y = convolution(x)
        if self.upsample:  # four pixels lie in the channels of one: norm, then spread
            return spread_pixels(norm(y, 4))
        if folds and s == 1:
            return unfold(norm(fold(y), 2))
        return norm(y, 1)


def _folds(x: jax.Array, features: int) -> bool:
    return x.shape[2] % 2 == 0 and features <= MAX_CHANNELS


class SpatialConv(nn.Module):
    """A convolution with a bias, whose result may be `pixels` of a finer map.

    Parameters are those of an `nn.Conv` before a PyTorch PixelShuffle: output channel
    ``c * pixels + i``. The result has channel ``i * features + c``, of which the pixel
    is easily taken out.
    """

    features: int
    kernel_size: int
    stride: int
    padding: int
    pixels: int
    folds: bool
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, H / stride, W / stride, pixels * features]."""
        k, s, features = self.kernel_size, self.stride, self.pixels * self.features
        shape = (k, k, x.shape[-1], features)
        kernel = self.param("kernel", trunc_normal_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (features,))
        x, kernel, bias = (v.astype(self.dtype) for v in (x, kernel, bias))
        if self.pixels > 1:
            kernel, bias = (_pixel_major(v, self.pixels) for v in (kernel, bias))
        if self.folds:
            y = folded_conv(x, kernel, s, self.padding)
            if s == 1:
                return add_bias(y, bias)
        else:
            y = conv_nd(x, kernel, (s, s), ((self.padding, self.padding),) * 2)
        return y + bias


def _pixel_major(values: jax.Array, pixels: int) -> jax.Array:
    """Channel c * pixels + i -> i * C + c."""
    parts = values.reshape(*values.shape[:-1], -1, pixels)
    return parts.swapaxes(-1, -2).reshape(values.shape)


class GroupNormSiLU(nn.Module):
    """GroupNorm of 2 groups and SiLU of copies of the channels side by side."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, copies: int) -> jax.Array:
        """[N, H, W, copies * C] -> the same."""
        c = x.shape[-1] // copies
        scale = self.param("scale", nn.initializers.ones, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        return group_norm_silu(x.astype(self.dtype), scale, bias, 2, 1e-5, copies)


class ConvSC(nn.Module):
    """One layer of the encoder (stride 1 or 2) or decoder (up-sampling or not)."""

    features: int
    kernel_size: int
    stride: int = 1
    upsample: bool = False
    wide: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]."""
        return BasicConv2d(
            self.features,
            self.kernel_size,
            self.stride,
            self.upsample,
            self.wide,
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
            kw["wide"] = i < 2  # what reads or writes maps of full resolution
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
            last = i == len(ups) - 1
            x = x + skip if last else x
            kw = {"upsample": up, "wide": last, "dtype": self.dtype}
            kw["name"] = f"dec_{i}"
            x = constrain_rows(layer(self.hid_s, self.kernel_size, **kw)(x))
        folds = _folds(x, self.hid_s)
        readout = conv(
            self.hid_s,
            self.out_channels,
            1,
            dtype=self.dtype,
            name="readout",
            function=folded_pointwise if folds else conv_nd,
        )
        return readout(x)
