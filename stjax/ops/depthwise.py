"""Depthwise convolution with stride 1 and its hand-written gradient.

Forward, input gradient and kernel gradient are each a loop over the kernel's taps on
CPU; elsewhere they are XLA's own. Automatic differentiation of the shifted sum would
keep and add up one padded array a tap: 2 to 3 times slower and larger.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.sharding.activations import devices_along

MAX_TAPS = 49
"""Beyond this many taps the unrolled sum compiles too slowly."""


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise(x, w, padding, dilation, impl):
    return _choose(impl, _shift_forward, _native, padding, dilation)(x, w)


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
      impl: ``"shift"``, ``"native"``, or ``"auto"`` (shift where lowered for CPU,
        unless a mesh splits the rows).

    Returns:
      ``[B, *spatial', C]``.
    """
    return _depthwise(x, w, padding, dilation, impl)


def _forward(x, w, padding, dilation, impl):
    return _depthwise(x, w, padding, dilation, impl), (x, w)


def _backward(padding, dilation, impl, residuals, dy):
    x, w = residuals
    return _choose(impl, _shift_gradient, _native_gradient, padding, dilation)(x, w, dy)


_depthwise.defvjp(_forward, _backward)


def _choose(impl, shift, native, padding, dilation):
    shift = partial(shift, padding=padding, dilation=dilation)
    native = partial(native, padding=padding, dilation=dilation)
    if impl == "shift":
        return shift
    if impl == "native" or devices_along("height") > 1:
        return native  # a shifted sum would ask the neighbours once a tap
    return lambda *args: lax.platform_dependent(*args, cpu=shift, default=native)


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


def _shift_forward(x, w, *, padding, dilation):
    window = w.shape[:-2]
    padded = _pad(x, padding)
    sizes = _output_sizes(padded.shape[1:-1], window, dilation)
    total = jnp.zeros((x.shape[0], *sizes, x.shape[-1]), jnp.float32)
    for index, offset in _taps(window, dilation):
        tap = w[index][0].astype(jnp.float32)
        total += _window(padded, offset, sizes).astype(jnp.float32) * tap
    return total.astype(x.dtype)


def _output_sizes(padded, window, dilation):
    return tuple(
        n - (k - 1) * d for n, k, d in zip(padded, window, dilation, strict=True)
    )


def _shift_gradient(x, w, dy, *, padding, dilation):
    window = w.shape[:-2]
    spatial = tuple(range(len(window)))
    # Gradient of the input: the same sum over dy with the kernel reversed.
    reach = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    back = tuple(
        (r - low, r - high) for r, (low, high) in zip(reach, padding, strict=True)
    )
    dx = _shift_forward(dy, jnp.flip(w, spatial), padding=back, dilation=dilation)
    # Gradient of the kernel: one inner product a tap, in a loop. Unrolled, XLA:CPU
    # materialises every shifted copy (10 times slower for 49 taps).
    padded = _pad(x, padding)
    dy = dy.astype(jnp.float32)
    sizes = (x.shape[0], *dy.shape[1:])

    def inner(offset):
        start = (0, *offset, 0)
        shifted = lax.dynamic_slice(padded, start, sizes).astype(jnp.float32)
        return jnp.sum(shifted * dy, tuple(range(x.ndim - 1)))

    offsets = jnp.array([offset for _, offset in _taps(window, dilation)])
    dw = lax.map(inner, offsets).reshape(w.shape)
    return dx.astype(x.dtype), dw.astype(w.dtype)
