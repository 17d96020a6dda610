"""Watches the modules that attend, from outside, while a network is applied."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from stjax.layers.mhra import GlobalBlock
from stjax.layers.non_local import NonLocal
from stjax.layers.self_attention import SelfAttention
from stjax.layers.tau import TemporalAttentionModule
from stjax.layers.uniformer_block import UniFormerBlock
from stjax.ops.pairwise import aggregate
from stjax.ops.pooling import max_pool

COLLECTION, VALUES = "attention_maps", "values"
Position = tuple[int, int, int]

# Submodules whose results the attention is computed from.
_PARTS = ("conv1", "fc_2", "conv_theta", "conv_phi", "conv_g", "qkv")


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer that was seen.

    Attributes:
      path: of the module.
      kind: "tau", "non_local" or "mhra".
      grid: (T, H, W) of its positions.
      query: (t, y, x) in the grid.
    """

    path: tuple[str, ...]
    kind: str
    grid: Position
    query: Position


class Watch:
    """An interceptor for `flax.linen.intercept_methods`, for one application.

    Every layer's arrays go to the collection `COLLECTION` under the layer's path, as
    `VALUES`, a tuple with one dictionary a call: "static" and "dynamic", or "weights"
    [heads, T, h, w] of the first clip.

    Attributes:
      layers: by path, in the order in which they were applied.
    """

    def __init__(self, position: Position, size: Position):
        """Asks for a position in a clip of (T, H, W)."""
        self._position, self._size = position, size
        self._parts: dict[tuple[str, ...], jax.Array] = {}
        self.layers: dict[tuple[str, ...], Layer] = {}

    def __call__(self, next_fun: Callable, args: tuple, kwargs: dict, context):
        """Calls a method and keeps what is of interest."""
        result, module = next_fun(*args, **kwargs), context.module
        if context.method_name != "__call__":
            return result
        if module.name in _PARTS:
            self._parts[module.path] = result
        for cls, (kind, read) in _READERS.items():
            if isinstance(module, cls):
                self._read(module, kind, read, args[0] if args else kwargs["x"])
        return result

    def _read(self, module: nn.Module, kind: str, read: Callable, x: jax.Array):
        parts = self._take(module)
        # A rematerialised module comes twice: itself, which takes its parts, and its
        # wrapping, for which there are none.
        grid = _grid(x)
        query = self._cell(grid)
        arrays = read(module, x, parts, query) if parts else None
        if arrays is not None:
            self.layers[module.path] = Layer(module.path, kind, grid, query)
            module.sow(COLLECTION, VALUES, arrays)

    def _cell(self, grid: Position) -> Position:
        """The cell of a layer in which the position lies."""
        return tuple(
            p * cells // size
            for p, cells, size in zip(self._position, grid, self._size, strict=True)
        )

    def _take(self, module: nn.Module) -> dict[str, jax.Array]:
        """The parts of a module by their relative names; they are forgotten."""
        n = len(module.path)
        own = [p for p in self._parts if p[:n] == module.path]
        return {"/".join(p[n:]): self._parts.pop(p) for p in own}


def _grid(x: jax.Array) -> Position:
    """(T, H, W) of [B, T, H, W, C], [B, H, W, C] or [B, T, C]."""
    if x.ndim == 5:
        return x.shape[1:4]
    return (1, *x.shape[1:3]) if x.ndim == 4 else (x.shape[1], 1, 1)


def _tau(module, u, parts, query) -> dict[str, jax.Array]:
    return {"static": parts["conv1"], "dynamic": nn.sigmoid(parts["fc_2"])}


def _non_local(module: NonLocal, x, parts, query) -> dict[str, jax.Array]:
    """The row of the affinity: the aggregate of an identity."""
    b, (t, h, w) = x.shape[0], _grid(x)
    pool = 1 if module.attend == "time" else module.pool

    def pooled(y):
        window = (1,) * (y.ndim - 4) + (pool,) * 2
        return max_pool(y, window, window) if pool > 1 else y

    theta, phi = parts.get("conv_theta", x), parts.get("conv_phi")
    if phi is None:  # the Gaussian compares the input itself
        phi = pooled(x)
    elif not module.pool_first:
        phi = pooled(phi)
    theta = theta.reshape(b, t, h, w, -1)[0, query[0], query[1], query[2]]
    keys = phi.reshape(b, t, *((h // pool, w // pool) if pool > 1 else (h, w)), -1)[0]
    seen = _seen(module, query, t)
    phi = keys[seen]
    count = math.prod(phi.shape[:3])
    weight = None
    if module.pairwise == "concatenation":
        weight = module.get_variable("params", "w_f")
    row = aggregate(
        theta[None, None].astype(jnp.float32),
        phi.reshape(1, count, -1).astype(jnp.float32),
        jnp.eye(count)[None],
        pairwise=module.pairwise,
        scale=theta.shape[-1] ** -0.5 if module.use_scale else 1.0,
        weight=weight,
        impl="dense",
    )
    row = row.reshape(1, *phi.shape[:3])
    return {"weights": jnp.zeros((1, *keys.shape[:3])).at[:, *seen].set(row)}


def _seen(module: NonLocal, query: Position, frames: int) -> tuple[slice, ...]:
    """The keys that a position sees, see ``NonLocal.attend``."""
    every = slice(None)
    t, y, x = query
    if module.attend == "space":
        return slice(t, t + 1), every, every
    size = frames // module.temporal_groups
    group = slice(t // size * size, (t // size + 1) * size)
    if module.attend == "time":
        return group, slice(y, y + 1), slice(x, x + 1)
    return group, every, every


def _mhra(module, x, parts, query) -> dict[str, jax.Array] | None:
    """The softmax of one query's logits."""
    if "attn/qkv" not in parts:  # a local block
        return None
    t, h, w = _grid(x)
    if hasattr(module, "head_dim"):
        heads = x.shape[-1] // module.head_dim
    else:
        heads = SelfAttention.heads
    qkv = parts["attn/qkv"][0].astype(jnp.float32)
    q, k, _ = jnp.moveaxis(qkv.reshape(len(qkv), 3, heads, -1), 1, 0)
    q = q[(query[0] * h + query[1]) * w + query[2]]
    logits = jnp.einsum("hd,nhd->hn", q, k) * q.shape[-1] ** -0.5
    return {"weights": jax.nn.softmax(logits).reshape(heads, t, h, w)}


_READERS = {
    TemporalAttentionModule: ("tau", _tau),
    NonLocal: ("non_local", _non_local),
    GlobalBlock: ("mhra", _mhra),
    UniFormerBlock: ("mhra", _mhra),
}
