"""Exact softmax attention of tokens that lie on several devices: keys go in a ring.

Each device keeps its queries; keys and values visit all devices, and each sees the
softmax go on online (Milakov and Gimelshein, arXiv 1805.02867; Liu et al., "Ring
Attention", arXiv 2310.01889). The forward pass keeps the result and the logarithm of
the sum; in the backward pass keys, values and their gradients go round again. No device
ever holds all keys, and neighbours only talk to neighbours.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from stjax.sharding.activations import devices_along, free_axes

MAX_LOGITS = 2**24
"""Logits an example that a device holds at a time; more queries take turns."""


def fits(q: jax.Array, k: jax.Array) -> bool:
    """Whether the devices along ``space`` divide queries and keys, [B, N, ...]."""
    size = devices_along("tokens")
    return size > 1 and q.shape[1] % size == k.shape[1] % size == 0


def ring_attention(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> jax.Array:
    """``softmax(scale * q k^T) v`` under a mesh whose ``space`` axis splits the tokens.

    Reverse mode only (`jax.jvp` raises).

    Args:
      q: [B, N, heads, d].
      k: [B, M, heads, d].
      v: [B, M, heads, e].
      scale: of the logits.

    Returns:
      [B, N, heads, e] in the dtype of `v`, the tokens split over ``space``.
    """
    batch = free_axes("batch") if q.shape[0] % devices_along("batch") == 0 else None
    spec = PartitionSpec(batch or None, "space")
    local = partial(_ring, scale=scale)
    sharded = jax.shard_map(
        local, in_specs=(spec, spec, spec), out_specs=spec, check_vma=False
    )
    return sharded(q, k, v)


def _ring(q, k, v, scale):
    return _attend(q, k, v, scale)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attend(q, k, v, scale):
    return _forward(q, k, v, scale)[0]


def _forward(q, k, v, scale):
    wide = jnp.promote_types(q.dtype, jnp.float32)
    turns = _turns(q, k)
    queries = _split(q, turns)

    def step(carry, _):
        k, v, state = carry

        def one(args):
            q, top, total, y = args
            s = _logits(q, k, scale)
            new = jnp.maximum(top, s.max(-1))
            p, shrink = jnp.exp(s - new[..., None]), jnp.exp(top - new)
            total = total * shrink + p.sum(-1)
            part = _einsum("bhnm,bmhe->bhne", p.astype(v.dtype), v)
            return new, total, y * shrink[..., None] + part

        state = lax.map(one, (queries, *state))
        return (*_pass_on(k, v), state), None

    b, n, h, _ = queries.shape[1:]
    top = jnp.full((turns, b, h, n), -jnp.inf, wide)
    state = top, jnp.zeros_like(top), jnp.zeros((*top.shape, v.shape[-1]), wide)
    size = lax.axis_size("space")
    (k, v, (top, total, y)), _ = lax.scan(step, (k, v, state), length=size)
    y = _join(jnp.swapaxes(y / total[..., None], 2, 3)).astype(v.dtype)
    return y, (q, k, v, y, top + jnp.log(total))


def _backward(scale, residuals, dy):
    q, k, v, y, lse = residuals
    wide, turns = lse.dtype, lse.shape[0]
    mean = (dy.astype(wide) * y.astype(wide)).sum(-1)  # sum_j p_j (dy . v_j)
    queries = [_split(x, turns) for x in (q, dy, mean)]

    def step(carry, _):
        k, v, dk, dv, dq = carry

        def one(carry, args):
            (q, dy, mean), lse, dq = args
            dk, dv = carry
            p = jnp.exp(_logits(q, k, scale) - lse[..., None])
            dp = _einsum("bnhe,bmhe->bhnm", dy, v)
            ds = p * (dp - jnp.swapaxes(mean, 1, 2)[..., None])
            ds = (ds * scale).astype(q.dtype)
            dk += _einsum("bhnm,bnhd->bmhd", ds, q)
            dv += _einsum("bhnm,bnhe->bmhe", p.astype(dy.dtype), dy)
            return (dk, dv), dq + _einsum("bhnm,bmhd->bnhd", ds, k)

        (dk, dv), dq = lax.scan(one, (dk, dv), (queries, lse, dq))
        return (*_pass_on(k, v, dk, dv), dq), None

    zeros = [jnp.zeros(x.shape, wide) for x in (k, v, queries[0])]
    # After as many steps as there are devices everything is back at its own.
    size = lax.axis_size("space")
    (_, _, dk, dv, dq), _ = lax.scan(step, (k, v, *zeros), length=size)
    return _join(dq).astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


_attend.defvjp(_forward, _backward)


def _pass_on(*arrays):
    size = lax.axis_size("space")
    return lax.ppermute(arrays, "space", [(i, (i + 1) % size) for i in range(size)])


def _einsum(spec, a, b):
    wide = jnp.promote_types(a.dtype, jnp.float32)
    return jnp.einsum(spec, a, b, preferred_element_type=wide)


def _logits(q, k, scale):
    return _einsum("bnhd,bmhd->bhnm", q, k) * scale


def _turns(q, k):
    """Into how many parts the queries are cut: the fewest that divide them."""
    n, heads, m = q.shape[1], q.shape[2], k.shape[1]
    return next(c for c in range(1, n + 1) if n % c == 0 and _small(n // c, heads, m))


def _small(n, heads, m):
    return n == 1 or heads * n * m <= MAX_LOGITS


def _split(x, count):
    """[B, count c, ...] -> [count, B, c, ...]."""
    x = x.reshape(x.shape[0], count, x.shape[1] // count, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)


def _join(x):
    """[count, B, c, ...] -> [B, count c, ...]."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])
