"""Self-attention with its projections, in the form that splash attention wants.

The kernel takes heads of whole lanes, 128 channels, each head on its own, and whole
blocks of tokens. Padding and turning queries, keys and values into that takes a TPU
longer than the attention. Here the tokens are padded before the projections, the
channels of a head with zeros in the projections' kernels, and the products write and
read what the kernel reads and writes.
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from stjax.ops.depthwise_plan import kernels_wanted
from stjax.ops.splash import (
    LANES,
    MIN_PAIRS,
    blocks_for,
    padded_splash,
    refusal,
)
from stjax.sharding.activations import devices_along, free_axes


def projects(x: jax.Array, heads: int) -> bool:
    """Whether attention of `x` [B, N, D] is `projected` where lowered for a TPU.

    Where `stjax.ops.attention.attention` would take the kernel, unless a mesh splits
    tokens or heads, or kernels are not wanted (`stjax.ops.depthwise_plan`).
    """
    b, n, d = x.shape
    if not (kernels_wanted() and all(isinstance(size, int) for size in x.shape)):
        return False
    head = jax.ShapeDtypeStruct((b, n, heads, d // heads), x.dtype)
    along = devices_along("everything")
    whole = along == devices_along("batch")
    return n * n >= MIN_PAIRS and whole and refusal(head, head, None) is None


def projected(
    x: jax.Array,
    qkv_kernel: jax.Array,
    qkv_bias: jax.Array,
    proj_kernel: jax.Array,
    proj_bias: jax.Array,
    heads: int,
) -> jax.Array:
    """What `stjax.layers.self_attention` computes; only a TPU can run it.

    Args:
      x: [B, N, D].
      qkv_kernel: [D, 3 D], channels as (3, heads, D / heads).
      qkv_bias: [3 D].
      proj_kernel: [D, D].
      proj_bias: [D].
      heads: must divide D.

    Returns:
      [B, N, D].
    """
    b, n, d = x.shape
    size, none = d // heads, (0, 0)
    blocks = blocks_for(n, n, size, size, x.dtype)
    lanes = (0, -size % LANES)
    # The bias is a row of the kernel: a product, not a pass, adds up its gradient.
    kernel = jnp.concatenate([qkv_kernel, qkv_bias[None]]).astype(jnp.float32)
    q, k, v = jnp.moveaxis(kernel.reshape(d + 1, 3, heads, size), 1, 0)
    tokens = jnp.concatenate([x, jnp.ones((b, n, 1), x.dtype)], -1)
    tokens = jnp.pad(tokens, [none, (0, -n % blocks.keys), none])
    parts = []
    for part in (q * size**-0.5, k, v):
        part = jnp.pad(part, [none, none, lanes]).astype(x.dtype)
        parts.append(jnp.einsum("bnc,chd->bhnd", tokens, part))
    y = _spread(*parts, n, blocks)
    kernel = jnp.pad(proj_kernel.reshape(heads, size, d), [none, lanes, none])
    return jnp.einsum("bhnd,hdc->bnc", y, kernel)[:, :n] + proj_bias


def _spread(q, k, v, keys, blocks):
    """On each device with its clips."""

    def local(q, k, v):
        return padded_splash(q, k, v, keys, blocks).astype(v.dtype)

    if devices_along("everything") == 1:
        return local(q, k, v)
    clips = PartitionSpec(free_axes("batch"))
    return jax.shard_map(local, in_specs=clips, out_specs=clips, check_vma=False)(
        q, k, v
    )
