"""Large-kernel attention of the Visual Attention Network (Guo et al., 2202.09741)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import Dtype
from stjax.layers.large_kernel import LargeKernelBlock, large_kernel


class LargeKernelAttention(nn.Module):
    """The input times a large-kernel convolution of itself; OpenSTL's ``LKA``."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        return u * large_kernel(u, u.shape[-1], fan_out=True, dtype=self.dtype)


class VANBlock(LargeKernelBlock):
    """LKA inside the BN / layer-scale / MixMlp block; OpenSTL's ``VANSubBlock``."""

    gate: Callable[..., nn.Module] = LargeKernelAttention
