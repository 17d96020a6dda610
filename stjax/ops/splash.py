"""JAX's splash attention kernel for TPUs, for any lengths and under a mesh."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash_lib
from jax.sharding import AxisType, PartitionSpec

from stjax.errors import UserError

LANES = 128
BLOCKS = (896, 768, 640, 512, 384, 256, LANES)
_LARGEST = 640  # where the keys are not all in the vector memory
_OVERHEAD = 64  # tokens that take as long as a block does besides
_VECTOR_MEMORY = 15 * 2**20  # of 16 MiB that a kernel may take of it
HEAD_SIZES = (32, 512)
MIN_PAIRS = 2**19
"""Pairs (N M) from which 'auto' prefers the kernel: 725 tokens among themselves."""


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


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How the kernel goes through queries and keys.

    Attributes:
      queries: in a block.
      keys: in a block.
      whole: all keys of a head stay in the vector memory. Then one kernel computes the
        gradients of queries, keys and values, and each logit twice, not three times.
    """

    queries: int
    keys: int
    whole: bool


def blocks_for(n: int, m: int, d: int, e: int, dtype: jnp.dtype) -> Blocks:
    """Blocks with which `padded_splash` takes least.

    Args:
      n: queries.
      m: keys.
      d: channels of queries and keys.
      e: of values.
      dtype: of all three.
    """
    d, e = (size + -size % LANES for size in (d, e))
    best = Blocks(_block(n, BLOCKS), _block(m, BLOCKS), True)
    bytes_ = jnp.dtype(dtype).itemsize
    # Keys, values and their gradients, each twice, in float32 once more, and their
    # segments; likewise queries, their gradients and the result's; a block of logits.
    total = -(-m // best.keys) * best.keys * ((d + e) * (4 * bytes_ + 4) + 4 * LANES)
    total += best.queries * (2 * bytes_ * (2 * d + e) + 4 * d)
    total += 4.4 * best.queries * best.keys
    if total <= _VECTOR_MEMORY:
        return best
    small = BLOCKS[BLOCKS.index(_LARGEST) :]
    return Blocks(_block(n, small), _block(m, small), False)


def _block(length, sizes):
    """The size for which padding, and what every block costs, is least."""
    return min(sizes, key=lambda b: -(-length // b) * (b + _OVERHEAD))


def _kernel(q, k, v, scale):
    (_, n, _, d), m, e = q.shape, k.shape[1], v.shape[-1]
    blocks = blocks_for(n, m, d, e, v.dtype)
    q = (q * scale).astype(k.dtype)
    q, k, v = (
        _pad(jnp.swapaxes(x, 1, 2), block)
        for x, block in ((q, blocks.queries), (k, blocks.keys), (v, blocks.keys))
    )
    y = padded_splash(q, k, v, m, blocks)
    return jnp.swapaxes(y[:, :, :n, :e], 1, 2).astype(v.dtype)


def padded_splash(
    q: jax.Array, k: jax.Array, v: jax.Array, keys: int, blocks: Blocks
) -> jax.Array:
    """The kernel itself, of what fills its blocks.

    Args:
      q: [B, heads, N, d], scaled; d a multiple of 128.
      k: [B, heads, M, d].
      v: [B, heads, M, e].
      keys: how many of the M count.
      blocks: they divide N and M.

    Returns:
      [B, heads, N, e].
    """
    (_, heads, n, _), m = q.shape, k.shape[2]
    rows, columns, whole = blocks.queries, blocks.keys, blocks.whole
    fetched = m if whole else columns
    size = splash_lib.BlockSizes(
        block_q=rows,
        block_kv=fetched,
        block_kv_compute=columns,
        block_q_dkv=rows,
        block_kv_dkv=fetched,
        block_kv_dkv_compute=columns,
        block_q_dq=None if whole else rows,
        block_kv_dq=None if whole else columns,
        use_fused_bwd_kernel=whole,
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
