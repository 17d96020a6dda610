"""PredFormer's gated transformer (Tang et al., arXiv 2410.04733).

Pre-norm attention and a SwiGLU MLP. Every transformer ends with a LayerNorm, so that
no residual path crosses from one to the next. Names follow the published weights.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import DropPath, Dtype, layer_norm, trunc_normal_init
from stjax.layers.remat import rematerialised
from stjax.layers.stacking import scan_blocks
from stjax.ops.attention import attention
from stjax.stacked import stack_name


class Attention(nn.Module):
    """Multi-head attention; without a bias in the projection to queries, keys, values.

    The output projection is left out for a single head of the full width.

    Attributes:
      heads: number of heads.
      dim_head: channels of a head.
      dropout: of the output (not of the attention weights).
    """

    heads: int
    dim_head: int
    dropout: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, N, D] -> [B, N, D]."""
        b, n, d = x.shape
        inner = self.heads * self.dim_head
        kw = {"kernel_init": trunc_normal_init, "dtype": self.dtype}
        qkv = nn.Dense(3 * inner, use_bias=False, name="to_qkv", **kw)(x)
        qkv = qkv.reshape(b, n, 3, self.heads, self.dim_head)
        q, k, v = jnp.moveaxis(qkv, 2, 0)
        y = attention(q, k, v, scale=self.dim_head**-0.5).reshape(b, n, inner)
        if self.heads == 1 and inner == d:
            return y
        y = nn.Dense(d, name="to_out_0", **kw)(y)
        return nn.Dropout(self.dropout)(y, deterministic=not train)


class SwiGLU(nn.Module):
    """``W (silu(G x) * (V x))`` with dropout of the product and of the result."""

    hidden: int
    dropout: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[..., D] -> [..., D]."""
        kw = {"kernel_init": trunc_normal_init, "dtype": self.dtype}
        drop = nn.Dropout(self.dropout, deterministic=not train)
        gate = nn.silu(nn.Dense(self.hidden, name="fc1_g", **kw)(x))
        y = drop(gate * nn.Dense(self.hidden, name="fc1_x", **kw)(x))
        return drop(nn.Dense(x.shape[-1], name="fc2", **kw)(y))


class PreNorm(nn.Module):
    """LayerNorm, then `fn` (a module without a parent, named fn here)."""

    fn: nn.Module
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[..., D] -> [..., D]."""
        return self.fn(layer_norm(1e-5, self.dtype, "norm")(x), train=train)


class GatedBlock(nn.Module):
    """Residual attention and residual SwiGLU, both with stochastic depth."""

    heads: int
    dim_head: int
    hidden: int
    dropout: float
    attn_dropout: float
    drop_path_rate: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, N, D] -> [B, N, D]."""
        dtype = self.dtype
        branches = (
            Attention(self.heads, self.dim_head, self.attn_dropout, dtype, parent=None),
            SwiGLU(self.hidden, self.dropout, dtype, parent=None),
        )
        for name, fn in zip("01", branches, strict=True):
            y = PreNorm(fn, dtype, name=name)(x, train=train)
            x = x + DropPath(self.drop_path_rate)(y, train=train)
        return x


class GatedTransformer(nn.Module):
    """`depth` gated blocks and a LayerNorm (epsilon 1e-5).

    Attributes:
      depth: blocks.
      block: fields of `GatedBlock`, as (name, value) pairs.
      remat: a name in `stjax.layers.remat.REMAT`.
      scan: run the blocks in one loop, see `stjax.layers.stacking`.
    """

    depth: int
    block: tuple[tuple[str, object], ...]
    remat: str = "none"
    scan: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, N, D] -> [B, N, D]."""
        cls = rematerialised(GatedBlock, self.remat, static_argnums=(2,))
        kw = {**dict(self.block), "dtype": self.dtype}
        if self.scan and self.depth > 1:
            block = GatedBlock(name=stack_name("layers_", 0, self.depth), **kw)
            x = scan_blocks(block, x, train, self.depth, remat=self.remat)
        else:
            for i in range(self.depth):
                x = cls(name=f"layers_{i}", **kw)(x, train)
        return layer_norm(1e-5, self.dtype, "norm")(x)
