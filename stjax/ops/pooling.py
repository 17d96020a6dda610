"""Max-pooling with a quick gradient."""

import itertools
from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax

from stjax.ops.folding import fold, foldable
from stjax.sharding.activations import devices_along


def max_pool(
    x: jax.Array,
    window: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int] | None = None,
) -> jax.Array:
    """The largest value of each window, as `flax.linen.max_pool`; reverse mode only.

    The maximum is taken over shifted, strided copies, a pair at a time. XLA's
    reduce-window is as good forwards, but its gradient scatters, which takes 4 to 10
    times as long on a CPU. Here the gradient looks up which place of each window has
    won, a byte a window. For a TPU XLA's own is better: by its estimate 80 M cycles for
    140 (8 x 64 x 112 x 112 x 64, window 2x3x3). Among equal values the first one gets
    the gradient, as in PyTorch (with few channels on a TPU, the first of the column
    that comes first).

    Args:
      x: ``[B, *positions, C]``.
      window: of each position's axis, 255 cells at most.
      strides: likewise.
      padding: cells beyond both ends of each axis, which never win; None for none.

    Returns:
      ``[B, *positions', C]`` with
      ``positions' = (positions + 2 padding - window) // stride + 1``.
    """
    window, strides = tuple(window), tuple(strides)
    padding = tuple(padding or (0,) * len(window))

    def native(x):
        if (
            foldable(x.shape)
            and (window[-1], strides[-1]) == (3, 2)
            and padding[-1] < 2
        ):
            return _folded(x, window, strides, padding)
        return _native(x, window, strides, padding)

    def own(x):
        return _max_pool(x, window, strides, padding)

    if devices_along("height") > 1:
        return own(x)
    return lax.platform_dependent(x, tpu=native, default=own)


def _folded(x, window, strides, padding):
    """`_native` of neighbouring columns in the channels; three columns at the end."""
    alone = (
        (*pair[:-1], one) for pair, one in ((window, 1), (strides, 1), (padding, 0))
    )
    y = _native(fold(x), *alone)
    even, odd = jnp.split(y, 2, axis=-1)
    if padding[-1]:
        none = [(0, 0, 0)] * (x.ndim - 2)
        low = jnp.array(-jnp.inf, x.dtype)
        three = lax.pad(odd, low, [*none, (1, -1, 0), (0, 0, 0)]), even, odd
    else:
        three = even[..., :-1, :], odd[..., :-1, :], even[..., 1:, :]
    return reduce(lambda best, y: jnp.where(y > best, y, best), three)


def _native(x, window, strides, padding):
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *((p, p) for p in padding), (0, 0)),
    )


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, strides, padding):
    best = None
    for tap in _taps(x, window, strides, padding):
        best = tap if best is None else jnp.where(tap > best, tap, best)
    return best


def _taps(x, window, strides, padding):
    """For each place in the window its value in all windows."""
    low = jnp.array(-jnp.inf, x.dtype)
    x = _pad(x, low, [(p, p) for p in padding])
    counts = _counts(x.shape[1:-1], window, strides)
    for start in _places(window):
        ends = [
            i + (count - 1) * s + 1
            for i, count, s in zip(start, counts, strides, strict=True)
        ]
        yield lax.slice(
            x, (0, *start, 0), (x.shape[0], *ends, x.shape[-1]), (1, *strides, 1)
        )


def _places(window):
    return list(itertools.product(*map(range, window)))


def _counts(sizes, window, strides):
    return [(n - k) // s + 1 for n, k, s in zip(sizes, window, strides, strict=True)]


def _pad(x, value, pads):
    if not any(map(any, pads)):
        return x
    return lax.pad(x, value, [(0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0)])


def _forward(x, window, strides, padding):
    best = winner = None
    for i, tap in enumerate(_taps(x, window, strides, padding)):
        if best is None:
            best, winner = tap, jnp.zeros(tap.shape, jnp.uint8)
        else:
            wins = tap > best
            best = jnp.where(wins, tap, best)
            winner = jnp.where(wins, jnp.uint8(i), winner)
    # Of `x` nothing but its shape, as an array without elements.
    return best, (winner, x[..., :0])


def _backward(window, strides, padding, residuals, dy):
    """A cell gets what comes to the windows that it has won.

    Cells at the same offset from a multiple of the strides lie in the same places of
    their windows: such a set is a sum of shifted arrays of the size of `dy`, and no
    array of the size of `x` is made but the result.
    """
    winner, x = residuals
    sizes = [n + 2 * p for n, p in zip(x.shape[1:-1], padding, strict=True)]
    cells = [-(-n // s) for n, s in zip(sizes, strides, strict=True)]
    before = [(k - 1) // s for k, s in zip(window, strides, strict=True)]
    pads = [
        (low, max(n - count, 0))
        for low, n, count in zip(before, cells, dy.shape[1:-1], strict=True)
    ]
    nobody = jnp.uint8(255)
    winner = _pad(winner, nobody, pads)
    dy = _pad(dy, jnp.zeros((), dy.dtype), pads)
    parts = []
    for offset in _places(strides):
        wide = jnp.promote_types(dy.dtype, jnp.float32)
        total = jnp.zeros((dy.shape[0], *cells, dy.shape[-1]), wide)
        for i, place in enumerate(_places(window)):
            steps = [
                divmod(k - o, s) for k, o, s in zip(place, offset, strides, strict=True)
            ]
            if any(rest for _, rest in steps):
                continue
            start = [low - m for low, (m, _) in zip(before, steps, strict=True)]
            limit = [a + n for a, n in zip(start, cells, strict=True)]
            cut = partial(
                lax.slice,
                start_indices=(0, *start, 0),
                limit_indices=(dy.shape[0], *limit, dy.shape[-1]),
            )
            total += jnp.where(cut(winner) == i, cut(dy), 0)
        parts.append(total.astype(dy.dtype))
    dx = _interleave(parts, strides)
    inner = [slice(p, p + n) for p, n in zip(padding, x.shape[1:-1], strict=True)]
    return (dx[:, *inner],)


_max_pool.defvjp(_forward, _backward)


def _interleave(parts, strides):
    """Cells of all offsets, in the order of `_places`, to their places."""
    for axis in range(len(strides), 0, -1):
        s = strides[axis - 1]
        groups = [parts[i : i + s] for i in range(0, len(parts), s)]
        parts = [_join(group, axis) for group in groups]
    return parts[0]


def _join(group, axis):
    if len(group) == 1:
        return group[0]
    shape = list(group[0].shape)
    shape[axis] *= len(group)
    return jnp.stack(group, axis + 1).reshape(shape)
