"""Multi-head self-attention with one projection to queries, keys and values."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.layers.common import Dtype, trunc_normal_init
from stjax.ops.attention import attention


def self_attention(
    x: jax.Array,
    heads: int,
    *,
    dtype: Dtype,
    bias: jax.Array | None = None,
    qkv_init: Callable = trunc_normal_init,
    proj_init: Callable = trunc_normal_init,
    spread: bool = False,
) -> jax.Array:
    """To be called inside a compact method; makes qkv and proj there.

    At birth weights are N(0, 0.02), unless told otherwise, and biases zero; logits are
    divided by the root of a head's width.

    Args:
      x: [B, N, D].
      heads: must divide D.
      dtype: compute dtype.
      bias: added to the logits, broadcastable to [B, heads, N, N].
      qkv_init: of the kernel of qkv.
      proj_init: of the kernel of proj.
      spread: see `stjax.ops.attention.attention`.

    Returns:
      [B, N, D].

    Raises:
      UserError: if the heads do not divide D.
    """
    b, n, d = x.shape
    if d % heads:
        raise UserError(
            f"{heads} attention heads need a width (hid_t and T * hid_s) divisible by "
            f"{heads}, got {d}"
        )
    qkv = nn.Dense(3 * d, kernel_init=qkv_init, dtype=dtype, name="qkv")(x)
    qkv = qkv.reshape(b, n, 3, heads, d // heads)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    y = attention(q, k, v, scale=(d // heads) ** -0.5, bias=bias, spread=spread)
    proj = nn.Dense(d, kernel_init=proj_init, dtype=dtype, name="proj")
    return proj(y.reshape(b, n, d))


class SelfAttention(nn.Module):
    """`self_attention` as a module of its own."""

    heads: int = 8
    dtype: Dtype = jnp.float32
    qkv_init: Callable = trunc_normal_init
    proj_init: Callable = trunc_normal_init
    spread: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, N, D] -> [B, N, D]."""
        return self_attention(
            x,
            self.heads,
            dtype=self.dtype,
            qkv_init=self.qkv_init,
            proj_init=self.proj_init,
            spread=self.spread,
        )
