"""JAX's splash attention kernel for TPUs, for any lengths and under a mesh."""

import math

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash_lib
from jax.sharding import AxisType, PartitionSpec

from stjax.errors import UserError

LANES = 128
BLOCKS = (640, 512, 384, 256, LANES)
_OVERHEAD = 64  # tokens that take as long as a block does besides
HEAD_SIZES = (32, 512)
MIN_PAIRS = 2**20
"""Pairs (N M) from which 'auto' prefers the kernel: 1,024 tokens among themselves."""


def refusal(q: jax.Array, v: jax.Array, bias: jax.Array | None) -> str | None:
    """Why the kernel cannot take these; None if it can."""
    low, high = HEAD_SIZES
    sizes = q.shape[-1], v.shape[-1]
    if bias is not None:
        return "it takes no bias"
    if not all(low <= size <= high for size in sizes):
        return f"heads of {sizes[0]} and {sizes[1]} channels; it takes {low} to {high}"
    if q.dtype not in (jnp.float32, jnp.bfloat16):
        return f"inputs are {q.dtype}; it takes float32 and bfloat16"
    mesh = jax.sharding.get_abstract_mesh()
    batch = math.prod(mesh.shape[axis] for axis in _batch_axes(mesh))
    if q.shape[0] % batch:
        return f"a batch of {q.shape[0]} cannot be split over {batch} devices"
    return None


def splash(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> jax.Array:
    """`stjax.ops.attention.attention` by the kernel; only a TPU can run it.

    The kernel wants lengths that its blocks divide: queries and keys are padded, and
    padded keys belong to another segment, which no query sees. Channels are padded to
    full lanes with zeros. The scale goes into q, rounded to its dtype.

    XLA cannot partition the kernel, so under a mesh (`jax.set_mesh`) it runs in a
    `jax.shard_map`: the batch over ``data`` and ``fsdp``, and where they can be divided
    the heads over ``space``, or else the queries, with all keys on each device.

    Args:
      q: [B, N, heads, d].
      k: [B, M, heads, d].
      v: [B, M, heads, e].
      scale: of the logits.

    Raises:
      UserError: for what `refusal` tells.
    """
    why = refusal(q, v, None)
    if why is not None:
        raise UserError(f"splash attention: {why}; use impl='chunked'")
    mesh = jax.sharding.get_abstract_mesh()
    batch = _batch_axes(mesh)
    space = mesh.shape["space"] if "space" in _free_axes(mesh) else None

    def local(q, k, v):
        return _kernel(q, k, v, scale)

    if math.prod(mesh.shape[axis] for axis in _free_axes(mesh)) == 1:
        return local(q, k, v)
    queries = keys = PartitionSpec(batch or None)
    if space and q.shape[2] % space == 0:
        queries = keys = PartitionSpec(batch or None, None, "space")
    elif space and q.shape[1] % space == 0:
        queries = PartitionSpec(batch or None, "space")
    sharded = jax.shard_map(
        local, in_specs=(queries, keys, keys), out_specs=queries, check_vma=False
    )
    return sharded(q, k, v)


def _free_axes(mesh):
    """Axes that no `jax.shard_map` around has taken."""
    types = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in types if kind != AxisType.Manual)


def _batch_axes(mesh):
    return tuple(axis for axis in ("data", "fsdp") if axis in _free_axes(mesh))


def block_size(length: int) -> int:
    """The block for which padding, and what every block costs, is least."""
    return min(BLOCKS, key=lambda b: -(-length // b) * (b + _OVERHEAD))


def _kernel(q, k, v, scale):
    (_, n, _, _), m, e = q.shape, k.shape[1], v.shape[-1]
    rows, columns = block_size(n), block_size(m)
    q = (q * scale).astype(k.dtype)
    q, k, v = (
        _pad(jnp.swapaxes(x, 1, 2), block)
        for x, block in ((q, rows), (k, columns), (v, columns))
    )
    y = padded_splash(q, k, v, m, (rows, columns))
    return jnp.swapaxes(y[:, :, :n, :e], 1, 2).astype(v.dtype)


def padded_splash(
    q: jax.Array, k: jax.Array, v: jax.Array, keys: int, blocks: tuple[int, int]
) -> jax.Array:
    """The kernel itself, of what fills its blocks.

    Args:
      q: [B, heads, N, d], scaled; d a multiple of 128.
      k: [B, heads, M, d].
      v: [B, heads, M, e].
      keys: how many of the M count.
      blocks: of queries and keys; they divide N and M.

    Returns:
      [B, heads, N, e].
    """
    (_, heads, n, _), m, (rows, columns) = q.shape, k.shape[2], blocks
    size = splash_lib.BlockSizes(
        block_q=rows,
        block_kv=columns,
        block_q_dkv=rows,
        block_kv_dkv=columns,
        block_q_dq=rows,
        block_kv_dq=columns,
    )
    kernel = splash_lib.make_splash_mha(
        splash_lib.MultiHeadMask([splash_lib.FullMask((n, m))] * heads),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=size,
    )
    segments = splash_lib.SegmentIds(
        jnp.zeros(n, jnp.int32), (jnp.arange(m) >= keys).astype(jnp.int32)
    )
    return jax.vmap(lambda q, k, v: kernel(q, k, v, segments))(q, k, v)


def _pad(x, block):
    """Zeros: positions up to whole blocks, channels up to whole lanes."""
    widths = [(0, 0), (0, 0), (0, -x.shape[2] % block), (0, -x.shape[3] % LANES)]
    return jnp.pad(x, widths)
