"""Depthwise convolution with stride 1 and its hand-written gradient.

Forward, input gradient and kernel gradient are each a loop over the kernel's taps on
CPU, a kernel by hand on a TPU (`stjax.ops.depthwise_kernel`) where it suits, and
elsewhere XLA's own. Automatic differentiation of the shifted sum would keep and add up
one padded array a tap: 2 to 3 times slower and larger.
"""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stjax.ops.depthwise_plan import uses_kernel
from stjax.sharding.activations import devices_along

MAX_TAPS = 49
"""The most taps that are unrolled. A sum of a hundred terms compiles slowly, and LLVM
does not vectorise it: 13 times slower than a loop over 5 planes of 25."""

TERMS = 16
"""The most columns that a step of the kernel's gradient sums."""


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise(x, w, padding, dilation, impl):
    forms = _shift_forward, _native, _by_hand
    return _choose(impl, *forms, padding, dilation)(x, w)


def depthwise(
    x: jax.Array,
    w: jax.Array,
    *,
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    impl: str = "auto",
) -> jax.Array:
    """Depthwise convolution, stride 1; reverse mode only (`jax.jvp` raises).

    Args:
      x: ``[B, *spatial, C]``, 1 to 3 spatial dimensions.
      w: ``[*window, 1, C]``.
      padding: (low, high) for each spatial dimension.
      dilation: kernel dilation for each spatial dimension.
      impl: ``"shift"``, ``"native"``, ``"kernel"``, or ``"auto"``: shift where lowered
        for CPU, unless a mesh splits the rows; kernel where lowered for a TPU, if it
        suits (`stjax.ops.depthwise_plan.uses_kernel`, which says how to do without).

    Returns:
      ``[B, *spatial', C]``.
    """
    return _depthwise(x, w, padding, dilation, impl)


def _forward(x, w, padding, dilation, impl):
    return _depthwise(x, w, padding, dilation, impl), (x, w)


def _backward(padding, dilation, impl, residuals, dy):
    x, w = residuals
    forms = _shift_gradient, _native_gradient, _by_hand_gradient
    return _choose(impl, *forms, padding, dilation)(x, w, dy)


_depthwise.defvjp(_forward, _backward)


def _choose(impl, shift, native, by_hand, padding, dilation):
    fields = {"padding": padding, "dilation": dilation}
    shift, native, by_hand = (partial(f, **fields) for f in (shift, native, by_hand))
    if impl == "shift":
        return shift
    if impl == "kernel":
        return by_hand
    if impl == "native" or devices_along("height") > 1:
        return native  # a shifted sum would ask the neighbours once a tap

    def chosen(x, w, *dy):
        tpu = native
        if uses_kernel(x.shape, x.dtype, w.shape, padding, dilation):
            tpu = by_hand
        return lax.platform_dependent(x, w, *dy, cpu=shift, tpu=tpu, default=native)

    return chosen


def _native(x, w, *, padding, dilation):
    spec = "DHW"[5 - x.ndim :]
    return lax.conv_general_dilated(
        x,
        w,
        (1,) * len(padding),
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{spec}C", f"{spec}IO", f"N{spec}C"),
        feature_group_count=x.shape[-1],
    )


def _native_gradient(x, w, dy, *, padding, dilation):
    return jax.vjp(partial(_native, padding=padding, dilation=dilation), x, w)[1](dy)


def _by_hand(x, w, *, padding, dilation):
    from stjax.ops import depthwise_kernel  # Pallas takes half a second to import

    return depthwise_kernel.spread_forward(x, w, padding=padding, dilation=dilation)


def _by_hand_gradient(x, w, dy, *, padding, dilation):
    from stjax.ops import depthwise_kernel

    fields = {"padding": padding, "dilation": dilation}
    dx, dw, _ = depthwise_kernel.spread_gradient(x, w, dy, **fields)
    return dx, dw.astype(w.dtype)


def _taps(window, dilation):
    """(index, offset) of each tap."""
    for index in itertools.product(*map(range, window)):
        yield index, tuple(i * d for i, d in zip(index, dilation, strict=True))


def _pad(x, padding):
    """Padded `x`, materialised once.

    Without the barrier the compiler may fuse what produced `x` (a GELU, say) into
    the sum below and compute it again for every tap. Negative padding crops.
    """
    config = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), config))


def _window(x, offset, sizes):
    start = (0, *offset, 0)
    limit = (x.shape[0], *(o + n for o, n in zip(offset, sizes, strict=True)))
    return lax.slice(x, start, (*limit, x.shape[-1]))


@partial(jax.jit, static_argnames=("padding", "dilation"))  # traced once for all blocks
def _shift_forward(x, w, *, padding, dilation):
    window = w.shape[:-2]
    padded = _pad(x, padding)
    sizes = _output_sizes(padded.shape[1:-1], window, dilation)
    total = jnp.zeros((x.shape[0], *sizes, x.shape[-1]), jnp.float32)
    if len(window) == 3 or math.prod(window) > MAX_TAPS:
        total = _add_planes(total, padded, w, dilation)
    else:
        total = _add_taps(total, padded, w, dilation)
    return total.astype(x.dtype)


def _add_taps(total, padded, w, dilation):
    """Unrolled."""
    sizes = total.shape[1:-1]
    scales = w.reshape(-1, w.shape[-1]).astype(jnp.float32)
    for i, (_, offset) in enumerate(_taps(w.shape[:-2], dilation)):
        tap = lax.index_in_dim(scales, i, keepdims=False)
        total += _window(padded, offset, sizes).astype(jnp.float32) * tap
    return total


def _add_planes(total, padded, w, dilation):
    """A loop over the first axis of the kernel.

    A loop is also what XLA:CPU cannot fuse into its neighbours: it would compute the
    sum again in each of them, and theirs in the next. A turn reads what the one before
    has cut out: slices at a place that is not a constant are not vectorised.
    """

    def plane(i):
        cells = lax.dynamic_slice_in_dim(padded, i * dilation[0], total.shape[1], 1)
        return cells, lax.dynamic_slice_in_dim(w, i, 1)

    def turn(i, carry):
        total, now = carry
        return _add_taps(total, *now, dilation), plane(i + 1)

    return lax.fori_loop(0, w.shape[0], turn, (total, plane(0)))[0]


def _output_sizes(padded, window, dilation):
    return tuple(
        n - (k - 1) * d for n, k, d in zip(padded, window, dilation, strict=True)
    )


@partial(jax.jit, static_argnames=("padding", "dilation"))  # traced once for all blocks
def _shift_gradient(x, w, dy, *, padding, dilation):
    window = w.shape[:-2]
    spatial = tuple(range(len(window)))
    # Gradient of the input: the same sum over dy with the kernel reversed.
    reach = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    back = tuple(
        (r - low, r - high) for r, (low, high) in zip(reach, padding, strict=True)
    )
    dx = _shift_forward(dy, jnp.flip(w, spatial), padding=back, dilation=dilation)
    dw = _kernel_gradient(x, dy, window, padding, dilation)
    return dx.astype(x.dtype), dw.reshape(w.shape).astype(w.dtype)


def _kernel_gradient(x, dy, window, padding, dilation):
    """All taps at once, from a few neighbours in a row after another.

    A step reads the rows around `TERMS` columns of some channels, which stay in cache;
    a tap after another would read both maps from memory once a tap (2 to 3 times
    slower). A step uses what the one before has cut out: see `_add_planes`.
    """
    padded, channels = _pad(x, padding), dy.shape[-1]
    count = max(n for n in range(1, TERMS + 1) if dy.shape[-2] % n == 0)
    block = max(n for n in range(1, min(channels, 512) + 1) if channels % n == 0)
    if count < 4 or devices_along("batch") > 1:  # a loop over clips would gather them
        return _kernel_gradient_by_taps(padded, dy, window, dilation)
    cells = (*dy.shape[:-2], dy.shape[-2] // count)
    starts = np.stack(np.unravel_index(np.arange(math.prod(cells)), cells), -1)
    starts[:, -1] *= count
    starts = jnp.asarray(np.concatenate([starts, starts[:1]]), jnp.int32)
    reach = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    sizes = (1, *(r + 1 for r in reach[:-1]), count + reach[-1], block)

    def cut(start, channel):
        start = (*start, channel)
        part = lax.dynamic_slice(padded, start, sizes)[0]
        part = lax.slice(part, (0,) * part.ndim, part.shape, (*dilation[:-1], 1, 1))
        row = lax.dynamic_slice(dy, start, (*(1,) * len(window), count, block))
        return part.astype(jnp.float32), row.reshape(count, block).astype(jnp.float32)

    def of_block(channel):
        def add(carry, start):
            total, part, row = carry
            for t in range(count):
                stop = t + reach[-1] + 1
                taps = lax.slice_in_dim(part, t, stop, dilation[-1], axis=-2)
                total += taps * lax.index_in_dim(row, t, keepdims=False)
            return (total, *cut(start, channel)), None

        zeros = jnp.zeros((*window, block), jnp.float32)
        carry = (zeros, *cut(starts[0], channel))
        return lax.scan(add, carry, starts[1:])[0][0]

    parts = lax.map(of_block, jnp.arange(0, channels, block, dtype=jnp.int32))
    return jnp.moveaxis(parts, 0, -2)


def _kernel_gradient_by_taps(padded, dy, window, dilation):
    """One inner product a tap, in a loop; unrolled, every shifted copy is kept."""
    dy = dy.astype(jnp.float32)
    sizes = (padded.shape[0], *dy.shape[1:])

    def inner(offset):
        start = (0, *offset, 0)
        shifted = lax.dynamic_slice(padded, start, sizes).astype(jnp.float32)
        return jnp.sum(shifted * dy, tuple(range(dy.ndim - 1)))

    offsets = jnp.array([offset for _, offset in _taps(window, dilation)])
    return lax.map(inner, offsets)
