"""The Temporal Attention Unit (Tan et al., CVPR 2023, arXiv 2206.12126, section 3).

Frames are stacked along channels, time major, so that a spatial convolution sees all
frames at once. Names follow OpenSTL's ``TAUSubBlock``.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import Dtype, torch_kernel_init
from stjax.layers.large_kernel import LargeKernelBlock, large_kernel


def static_attention(u: jax.Array, dtype: Dtype) -> jax.Array:
    """Intra-frame attention [B, h, w, D]: a large-kernel convolution of `u`.

    To be called inside a compact method; makes conv0, conv_spatial and conv1 there.
    """
    return large_kernel(u, u.shape[-1], fan_out=False, dtype=dtype)


def dynamic_attention(u: jax.Array, dtype: Dtype) -> jax.Array:
    """Inter-frame attention [B, 1, 1, D]: squeeze-excitation over stacked frames.

    Its hidden width is ``D // max(D // 16, 4)``, so 16 for any D >= 64, as in the
    official code (the paper's reduction of 16 would give D // 16). To be called inside
    a compact method; makes fc_0 and fc_2 there.
    """
    d = u.shape[-1]
    linear = partial(
        nn.Dense, use_bias=False, kernel_init=torch_kernel_init, dtype=dtype
    )
    pooled = u.mean((1, 2), dtype=jnp.float32)
    squeezed = nn.relu(linear(d // max(d // 16, 4), name="fc_0")(pooled))
    return nn.sigmoid(linear(d, name="fc_2")(squeezed))[:, None, None]


class TemporalAttentionModule(nn.Module):
    """Static attention times dynamic attention times the input."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        static = static_attention(u, self.dtype)
        return dynamic_attention(u, self.dtype) * static * u


class TAUBlock(LargeKernelBlock):
    """TAU inside the BN / layer-scale / MixMlp block.

    The attention keeps PyTorch's default initialisation where gSTA's is N(0, 2 /
    fan_out): the official class replaces it after the initialiser has run.
    """

    gate: type[nn.Module] = TemporalAttentionModule
    fan_out: bool = False
