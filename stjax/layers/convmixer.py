"""The ConvMixer block (Trockman and Kolter, arXiv 2201.09792) as a translator."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import BatchNorm, Dtype, conv, fan_out_init, gelu


class ConvMixerBlock(nn.Module):
    """Depthwise 11x11, GELU, BN, plus the input; then 1x1, GELU, BN, no residual.

    OpenSTL's ``ConvMixerSubBlock``; it has no MLP and no drop path.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        kw = {"groups": d, "kernel_init": fan_out_init(d), "dtype": self.dtype}
        y = gelu(conv(d, d, 11, name="conv_dw", **kw)(x))
        x = x + BatchNorm(dtype=self.dtype, name="norm_1")(y, train=train)
        kw = {"kernel_init": fan_out_init(), "dtype": self.dtype}
        y = gelu(conv(d, d, 1, name="conv_pw", **kw)(x))
        return BatchNorm(dtype=self.dtype, name="norm_2")(y, train=train)
