"""Softmax attention, dense or in chunks of queries; both compute the same sums."""

import jax
import jax.numpy as jnp
from jax import lax

IMPLS = ("auto", "dense", "chunked")
MAX_LOGITS = 2**24
"""Logits an example (heads x queries x keys) beyond which 'auto' goes in chunks."""


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    scale: float = 1.0,
    bias: jax.Array | None = None,
    impl: str = "auto",
    chunk: int | None = None,
) -> jax.Array:
    """``softmax(scale * q k^T + bias) v``, softmax and logits in float32.

    Args:
      q: [B, N, heads, d].
      k: [B, M, heads, d].
      v: [B, M, heads, e].
      scale: of the logits; often ``d ** -0.5``.
      bias: added to the logits, broadcastable to [B, heads, N, M].
      impl: ``"dense"`` keeps all logits; ``"chunked"`` keeps those of `chunk`
        queries and computes them again in the backward pass; ``"auto"`` is chunked
        beyond `MAX_LOGITS`.
      chunk: queries a chunk; by default as many as stay below `MAX_LOGITS`.

    Returns:
      [B, N, heads, e] in the dtype of `v`.

    Raises:
      ValueError: for an unknown `impl`.
    """
    if impl not in IMPLS:
        raise ValueError(f"impl {impl!r} is none of {', '.join(IMPLS)}")
    n, heads = q.shape[1:3]
    m = k.shape[1]
    if impl == "dense" or (impl == "auto" and heads * n * m <= MAX_LOGITS):
        return _dense(q, k, v, bias, scale)
    chunk = chunk or max(1, MAX_LOGITS // (heads * m))
    return _chunked(q, k, v, bias, scale, min(chunk, n))


def _dense(q, k, v, bias, scale):
    f32 = jnp.float32
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=f32) * scale
    if bias is not None:
        logits += bias.astype(f32)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    y = jnp.einsum("bhnm,bmhe->bnhe", weights, v, preferred_element_type=f32)
    return y.astype(v.dtype)


def _chunked(q, k, v, bias, scale, chunk):
    b, n, heads, d = q.shape
    count = -(-n // chunk)
    pad = count * chunk - n

    def split(x, axis):
        """Chunks of `axis` to the front; the last one filled up with zeros."""
        widths = [(0, pad if a == axis else 0) for a in range(x.ndim)]
        x = jnp.pad(x, widths)
        x = x.reshape(*x.shape[:axis], count, chunk, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    @jax.checkpoint
    def one(args):
        q, bias = args
        return _dense(q, k, v, bias, scale)

    if bias is not None:
        bias = bias.reshape((1,) * (4 - bias.ndim) + bias.shape)
        bias = split(jnp.broadcast_to(bias, (*bias.shape[:2], n, k.shape[1])), 2)
    y = jnp.moveaxis(lax.map(one, (split(q, 1), bias)), 0, 1)
    return y.reshape(b, count * chunk, heads, v.shape[-1])[:, :n]
