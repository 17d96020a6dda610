"""Gated spatio-temporal attention: SimVP v2 (Tan et al., arXiv 2211.12509)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import Dtype
from stjax.layers.large_kernel import LargeKernelBlock, large_kernel


class GatedAttention(nn.Module):
    """A large-kernel convolution to 2 D channels, one half gating the other.

    The input itself is not multiplied, unlike in VAN and TAU. OpenSTL's
    ``AttentionModule``.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        y = large_kernel(u, 2 * u.shape[-1], fan_out=True, dtype=self.dtype)
        value, gate = jnp.split(y, 2, axis=-1)
        return nn.sigmoid(gate) * value


class GSTABlock(LargeKernelBlock):
    """gSTA inside the BN / layer-scale / MixMlp block; OpenSTL's ``GASubBlock``."""

    gate: Callable[..., nn.Module] = GatedAttention
