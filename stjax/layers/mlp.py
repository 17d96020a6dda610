"""The two-layer perceptron of transformer blocks, linear or as 1x1 convolutions."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import Dtype, conv, gelu, trunc_normal_init


class Mlp(nn.Module):
    """Linear to `hidden`, GELU, linear back; weights N(0, 0.02), biases zero."""

    hidden: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        kw = {"kernel_init": trunc_normal_init, "dtype": self.dtype}
        y = gelu(nn.Dense(self.hidden, name="fc1", **kw)(x))
        return nn.Dense(x.shape[-1], name="fc2", **kw)(y)


class ConvMlp(nn.Module):
    """The same as 1x1 or 1x1x1 convolutions, initialised by `kernel_init`.

    None: as PyTorch does.
    """

    hidden: int
    kernel_init: Callable | None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, (t,) h, w, D] -> [B, (t,) h, w, D]."""
        d, ndim = x.shape[-1], x.ndim - 2
        kw = {"ndim": ndim, "kernel_init": self.kernel_init, "dtype": self.dtype}
        y = gelu(conv(d, self.hidden, 1, name="fc1", **kw)(x))
        return conv(self.hidden, d, 1, name="fc2", **kw)(y)
