"""Convolutions of few channels on folded columns, see `stjax.ops.folding`.

A 3 x 3 convolution has 3 x 3 cells of two pixels each, half of its kernel zeros. That
is twice the multiplications (four thirds with stride 2) and, by the TPU compiler's
estimate, less than half of the time.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.ops.conv import conv_nd
from stjax.ops.folding import fold, unfold


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """``x + bias`` over channels, of columns that a TPU has folded."""

    def folded(x, bias):
        return unfold(fold(x) + jnp.tile(bias, 2))

    return lax.platform_dependent(x, bias, tpu=folded, default=jnp.add)


def folded_conv(
    x: jax.Array, w: jax.Array, stride: int, padding: int, impl: str = "auto"
) -> jax.Array:
    """A 2-D convolution that a TPU computes on folded columns.

    Reverse mode only (`jax.jvp` raises).

    Args:
      x: [N, H, W, C], W even.
      w: [k, k, C, C_out].
      stride: 1 or 2. With 1 the result too is best used folded.
      padding: on all sides; with it W / stride columns come out.
      impl: ``"folded"``, ``"plain"``, or ``"auto"`` (folded where lowered for TPU).

    Returns:
      [N, H / stride, W / stride, C_out].
    """
    return _conv(x, w, stride, padding, impl)


def folded_pointwise(x: jax.Array, w: jax.Array, *args, **kwargs) -> jax.Array:
    """The same for a 1x1 kernel, with the signature that `flax.linen.Conv` calls."""
    del args, kwargs
    return folded_conv(x, w, 1, 0)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, w, stride, padding, impl):
    return _choose(impl, *_both(stride, padding))(x, w)


def _forward(x, w, stride, padding, impl):
    return _conv(x, w, stride, padding, impl), (x, w)


def _backward(stride, padding, impl, residuals, dy):
    def gradient(f):
        return lambda x, w, dy: jax.vjp(f, x, w)[1](dy)

    return _choose(impl, *map(gradient, _both(stride, padding)))(*residuals, dy)


_conv.defvjp(_forward, _backward)


def _both(stride, padding):
    fields = {"stride": stride, "padding": padding}
    return partial(_folded, **fields), partial(_plain, **fields)


def _choose(impl, folded, plain):
    if impl != "auto":
        return {"folded": folded, "plain": plain}[impl]
    return lambda *args: lax.platform_dependent(*args, tpu=folded, default=plain)


def _plain(x, w, *, stride, padding):
    return conv_nd(x, w, (stride, stride), ((padding, padding),) * 2)


def _folded(x, w, *, stride, padding):
    cells, low, high = folded_kernel(w, stride, padding)
    y = lax.conv_general_dilated(
        fold(x),
        cells,
        (stride, 1),
        ((padding, padding), (low, high)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return unfold(y) if stride == 1 else y


def folded_kernel(
    w: jax.Array, stride: int, padding: int
) -> tuple[jax.Array, int, int]:
    """The kernel on folded columns, and how many cells to pad left and right.

    Args:
      w: [k, k, C, C_out].
      stride: 1, then the result is folded too; or 2, then it is not.
      padding: in pixels.

    Returns:
      [k, cells, 2 C, 2 C_out or C_out], cells to the left, cells to the right.
    """
    k, _, c, features = w.shape
    places = range(2 if stride == 1 else 1)  # columns of the result in a cell
    low = (padding + 1) // 2
    high = (places[-1] + k - 1 - padding) // 2
    cells = low + 1 + high
    parts = []
    for place in places:
        left = 2 * low - padding + place
        wide = jnp.pad(w, ((0, 0), (left, 2 * cells - k - left), (0, 0), (0, 0)))
        parts.append(wide.reshape(k, cells, 2 * c, features))
    return jnp.concatenate(parts, axis=-1), low, high
