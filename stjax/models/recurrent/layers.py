"""Layers that only the recurrent models need."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from stjax.layers.common import torch_bias_init, torch_kernel_init
from stjax.ops.conv import conv_nd

Array = jax.Array


class ConvTranspose(nn.Module):
    """3x3 transposed convolution: torch's, padding 1, output_padding stride - 1.

    The kernel is stored as [3,3,in,out]: torch's (in,out,3,3) with the axes moved, not
    mirrored.
    """

    features: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,C] -> [B,H*stride,W*stride,features]."""
        # torch takes fan_in of the (in, out, 3, 3) weight from its second axis.
        uniform = torch_bias_init(9 * self.features)
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", uniform, shape)
        bias = self.param("bias", uniform, (self.features,))
        # The adjoint of a convolution: dilate the input, mirror the kernel, pad by
        # kernel - 1 - padding, and by output_padding more at the end.
        pad = (1, self.stride)
        y = conv_nd(
            x.astype(self.dtype),
            kernel[::-1, ::-1].astype(self.dtype),
            window_strides=(1, 1),
            padding=(pad, pad),
            lhs_dilation=(self.stride, self.stride),
        )
        return y + bias.astype(self.dtype)


class MapNorm(nn.Module):
    """LayerNorm over a whole map, with an affine transform of the map's shape.

    The affine parameters keep torch's order (C,*space), so they hold for one image
    size only. Statistics are float32, eps 1e-5.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,*space,C] -> the same shape."""
        shape = (x.shape[-1], *x.shape[1:-1])
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        y = x.astype(jnp.float32)
        axes = tuple(range(1, x.ndim))
        y = y - jnp.mean(y, axes, keepdims=True)
        y = y * lax.rsqrt(jnp.mean(y * y, axes, keepdims=True) + 1e-5)
        y = y * jnp.moveaxis(scale, 0, -1) + jnp.moveaxis(bias, 0, -1)
        return y.astype(x.dtype)


class Readout(nn.Module):
    """1x1 convolution; `features` is given by the call."""

    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, features: int) -> Array:
        """[B,H,W,C] -> [B,H,W,features]."""
        shape = (1, 1, x.shape[-1], features)
        kernel = self.param("kernel", torch_kernel_init, shape)
        y = x.astype(self.dtype) @ kernel[0, 0].astype(self.dtype)
        if self.use_bias:
            bias = self.param("bias", torch_bias_init(x.shape[-1]), (features,))
            y = y + bias.astype(self.dtype)
        return y


def split(x: Array, parts: int) -> Sequence[Array]:
    """Cuts the channels into equal parts: the gates of a cell."""
    return jnp.split(x, parts, axis=-1)
