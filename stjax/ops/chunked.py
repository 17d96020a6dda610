"""Exact softmax attention that never holds the logits of more than one chunk pair.

The softmax over the keys runs online (Milakov and Gimelshein, arXiv 1805.02867): a
running maximum and sum, and an accumulator rescaled when the maximum moves. The forward
pass keeps the output and the logarithm of the sum; the backward pass computes each
chunk's probabilities again from them (Dao et al., arXiv 2205.14135, appendix B).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

CHUNK = 1024
"""Queries and keys a chunk, at most."""


class _Tiles(NamedTuple):
    """Queries [i n, i n + n) meet keys [j m, j m + m); `keys` of them are real."""

    n: int
    m: int
    rows: int
    columns: int
    keys: int


def chunked(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None,
    scale: float,
    chunk: int,
) -> jax.Array:
    """`stjax.ops.attention.attention` in chunks of queries and of keys.

    Lengths that `chunk` does not divide are spread over the fewest equal chunks. Only
    reverse mode: `jax.jvp` raises.

    Args:
      q: [B, N, heads, d].
      k: [B, M, heads, d].
      v: [B, M, heads, e].
      bias: added to the logits, [B or 1, heads or 1, N or 1, M or 1].
      scale: of the logits.
      chunk: the most queries, and keys, of a chunk.
    """
    lengths = q.shape[1], k.shape[1]
    rows, columns = (-(-length // chunk) for length in lengths)
    n, m = -(-lengths[0] // rows), -(-lengths[1] // columns)
    tiles = _Tiles(n, m, rows, columns, lengths[1])
    q = _pad(q, 1, rows * n)
    k, v = _pad(k, 1, columns * m), _pad(v, 1, columns * m)
    if bias is not None:
        bias = _pad(_pad(bias, 2, rows * n), 3, columns * m)
    return _attend(q, k, v, bias, scale, tiles)[:, : lengths[0]]


def _pad(x, axis, length):
    """Zeros up to `length`; an axis of 1 that is broadcast stays."""
    if x.shape[axis] in (1, length):
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, length - x.shape[axis])
    return jnp.pad(x, widths)


def _split(x, count):
    """[B, count c, ...] -> [count, B, c, ...]."""
    x = x.reshape(x.shape[0], count, x.shape[1] // count, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)


def _join(x):
    """[count, B, c, ...] -> [B, count c, ...]."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def _tile(bias, i, j, tiles):
    """Where the bias of a pair of chunks starts, and its shape."""
    b, h, n, m = bias.shape
    start = (0, 0, i * tiles.n if n > 1 else 0, j * tiles.m if m > 1 else 0)
    return start, (b, h, min(n, tiles.n), min(m, tiles.m))


def _logits(q, k, bias, scale, i, j, tiles):
    """[B, heads, n, m] of one pair of chunks; minus infinity at keys of padding."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    s = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=wide) * scale
    if bias is not None:
        s += lax.dynamic_slice(bias, *_tile(bias, i, j, tiles)).astype(wide)
    if tiles.columns * tiles.m > tiles.keys:
        real = j * tiles.m + jnp.arange(tiles.m) < tiles.keys
        s = jnp.where(real, s, -jnp.inf)
    return s


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(q, k, v, bias, scale, tiles):
    return _forward(q, k, v, bias, scale, tiles)[0]


def _forward(q, k, v, bias, scale, tiles):
    wide = jnp.promote_types(q.dtype, jnp.float32)
    ks, vs = _split(k, tiles.columns), _split(v, tiles.columns)

    def row(args):
        i, q = args

        def step(carry, args):
            top, total, y = carry
            j, k, v = args
            s = _logits(q, k, bias, scale, i, j, tiles)
            new = jnp.maximum(top, s.max(-1))
            p, shrink = jnp.exp(s - new[..., None]), jnp.exp(top - new)
            total = total * shrink + p.sum(-1)
            p = p.astype(v.dtype)
            part = jnp.einsum("bhnm,bmhe->bhne", p, v, preferred_element_type=wide)
            return (new, total, y * shrink[..., None] + part), None

        b, n, h, _ = q.shape
        zeros = jnp.zeros((b, h, n), wide)
        # The lowest finite number: a chunk whose logits are all -inf gives no NaN.
        top = jnp.full((b, h, n), jnp.finfo(wide).min, wide)
        start = (top, zeros, jnp.zeros((b, h, n, v.shape[-1]), wide))
        (top, total, y), _ = lax.scan(step, start, (jnp.arange(tiles.columns), ks, vs))
        y = (y / total[..., None]).astype(v.dtype)
        return jnp.swapaxes(y, 1, 2), jnp.swapaxes(top + jnp.log(total), 1, 2)

    y, lse = lax.map(row, (jnp.arange(tiles.rows), _split(q, tiles.rows)))
    y, lse = _join(y), _join(lse)
    return y, (q, k, v, bias, y, lse)


def _backward(scale, tiles, residuals, dy):
    q, k, v, bias, y, lse = residuals
    wide = lse.dtype
    einsum = partial(jnp.einsum, preferred_element_type=wide)
    ks, vs = _split(k, tiles.columns), _split(v, tiles.columns)
    mean = (dy.astype(wide) * y.astype(wide)).sum(-1)  # sum_j p_j (dy . v_j)

    def row(carry, args):
        i, q, dy, lse, mean = args

        def step(carry, args):
            dq, dbias = carry
            j, k, v = args
            s = _logits(q, k, bias, scale, i, j, tiles)
            p = jnp.exp(s - jnp.swapaxes(lse, 1, 2)[..., None])
            dp = einsum("bnhe,bmhe->bhnm", dy, v)
            ds = p * (dp - jnp.swapaxes(mean, 1, 2)[..., None])
            if bias is not None:
                dbias = _add(dbias, ds, i, j, tiles)
            ds = (ds * scale).astype(q.dtype)
            dq += einsum("bhnm,bmhd->bnhd", ds, k)
            dk = einsum("bhnm,bnhd->bmhd", ds, q)
            dv = einsum("bhnm,bnhe->bmhe", p.astype(dy.dtype), dy)
            return (dq, dbias), (dk, dv)

        dk, dv, dbias = carry
        columns = (jnp.arange(tiles.columns), ks, vs)
        start = (jnp.zeros(q.shape, wide), dbias)
        (dq, dbias), (more_dk, more_dv) = lax.scan(step, start, columns)
        return (dk + more_dk, dv + more_dv, dbias), dq.astype(q.dtype)

    start = [jnp.zeros(x.shape, wide) for x in (ks, vs)]
    start.append(None if bias is None else jnp.zeros(bias.shape, wide))
    parts = [_split(x, tiles.rows) for x in (q, dy, lse, mean)]
    (dk, dv, dbias), dq = lax.scan(row, tuple(start), (jnp.arange(tiles.rows), *parts))
    if bias is not None:
        dbias = dbias.astype(bias.dtype)
    return _join(dq), _join(dk).astype(k.dtype), _join(dv).astype(v.dtype), dbias


def _add(dbias, ds, i, j, tiles):
    """Adds the gradient of one pair of chunks where its bias lies."""
    start, shape = _tile(dbias, i, j, tiles)
    shared = [axis for axis in range(4) if shape[axis] < ds.shape[axis]]
    ds = ds.sum(shared, keepdims=True)
    old = lax.dynamic_slice(dbias, start, shape)
    return lax.dynamic_update_slice(dbias, old + ds, start)


_attend.defvjp(_forward, _backward)
