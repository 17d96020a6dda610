"""Dense convolution with gradients that XLA:CPU computes quickly everywhere.

XLA:CPU brings the two convolutions of a gradient into the layout of its fast path only
outside loops. Inside `jax.lax.scan` (recurrent models, scanned blocks) they run a
hundred times slower. Here the one of the input is written in that layout from the
start. The one of the kernel, a convolution whose window is a whole map, is a matrix
product of patches in blocks (233 -> 47 ms for 20 maps of 64 x 64 x 64 on jax 0.10), or
with large windows or few channels the convolution in that layout. Elsewhere they are
XLA's own.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.sharding.activations import devices_along

Pairs = tuple[tuple[int, int], ...]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def dense(
    x: jax.Array,
    w: jax.Array,
    strides: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    precision: object = None,
) -> jax.Array:
    """Convolution without groups; reverse mode only (`jax.jvp` raises).

    Args:
      x: [B, *spatial, C_in].
      w: [*window, C_in, C_out].
      strides: for each spatial dimension.
      padding: (low, high) for each spatial dimension.
      dilation: of the kernel, for each spatial dimension.
      precision: as in `jax.lax.conv_general_dilated`.

    Returns:
      [B, *spatial', C_out].
    """
    return _conv(x, w, strides, padding, dilation, precision)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def pointwise(x: jax.Array, w: jax.Array, precision: object = None) -> jax.Array:
    """Convolution with a window of one, as a matrix product; reverse mode only.

    Of its own gradient, XLA:CPU transposes operands and result: copies, and into them
    it merges whatever made the gradient, to be computed once more.

    Args:
      x: [..., C_in].
      w: [*ones, C_in, C_out].
      precision: as in `jax.numpy.matmul`.
    """
    w = w.reshape(w.shape[-2:])
    return jnp.matmul(_rows(x), w, precision=precision).reshape(*x.shape[:-1], -1)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _pointwise_forward(x, w, precision):
    return pointwise(x, w, precision), (x, w)


def _pointwise_backward(precision, residuals, dy):
    x, w = residuals
    rows = _rows(dy)
    dot = partial(lax.dot_general, precision=precision)
    dx = dot(rows, w.reshape(w.shape[-2:]), (((1,), (1,)), ((), ())))
    dw = dot(_rows(x), rows, (((0,), (0,)), ((), ())))
    return dx.reshape(x.shape), dw.reshape(w.shape)


pointwise.defvjp(_pointwise_forward, _pointwise_backward)


def _conv(x, w, strides, padding, dilation, precision):
    spec = "DHW"[5 - x.ndim :]
    return lax.conv_general_dilated(
        x,
        w,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{spec}C", f"{spec}IO", f"N{spec}C"),
        precision=precision,
    )


def _forward(x, w, strides, padding, dilation, precision):
    return dense(x, w, strides, padding, dilation, precision), (x, w)


def _backward(strides, padding, dilation, precision, residuals, dy):
    args = strides, padding, dilation, precision

    def native(x, w, dy):
        return jax.vjp(lambda x, w: _conv(x, w, *args), x, w)[1](dy)

    def canonical(x, w, dy):
        return _input_gradient(x, w, dy, *args), _kernel_gradient(x, w, dy, *args)

    x, w = residuals
    if devices_along("height") > 1:  # XLA splits the rows of its own form best
        return native(x, w, dy)
    return lax.platform_dependent(x, w, dy, cpu=canonical, default=native)


dense.defvjp(_forward, _backward)


def _input_gradient(x, w, dy, strides, padding, dilation, precision):
    """`dy`, spread by the strides, convolved with the reversed kernel."""
    n = len(strides)
    if n == 2 and math.prod(dy.shape[:-1]) < 2 * dy.shape[-1]:
        return _columns_gradient(x, w, dy, strides, padding, dilation, precision)
    w = jnp.flip(w, tuple(range(n))).swapaxes(-1, -2)
    sides = []
    for i in range(n):
        low = (w.shape[i] - 1) * dilation[i] - padding[i][0]
        spread = (dy.shape[i + 1] - 1) * strides[i] + 1
        high = x.shape[i + 1] + padding[i][0] - spread
        sides.append((low, high))
    dy = _pad(dy, sides, strides)
    return _conv(dy, w, (1,) * n, ((0, 0),) * n, dilation, precision).astype(x.dtype)


def _columns_gradient(x, w, dy, strides, padding, dilation, precision):
    """A product with the kernel as it lies, then shifted sums.

    For small maps: XLA:CPU takes longer to reverse a large kernel than to use it.
    """
    kernel, c = w.shape[:2], x.shape[-1]
    w = w.reshape(-1, w.shape[-1])
    rows = dy.reshape(-1, dy.shape[-1])
    columns = lax.dot_general(rows, w, (((1,), (1,)), ((), ())), precision=precision)
    columns = columns.reshape(*dy.shape[:-1], -1)
    # Tap k of a result lies at stride * position + dilation * k - padding.
    sides = []
    for i in range(2):
        reach = (kernel[i] - 1) * dilation[i]
        spread = (dy.shape[i + 1] - 1) * strides[i] + 1
        low = reach - padding[i][0]
        sides.append((low, x.shape[i + 1] + padding[i][0] - spread))
    columns = _pad(columns, sides, strides)
    total = 0.0
    for k in range(kernel[0] * kernel[1]):
        top = (kernel[0] - 1 - k // kernel[1]) * dilation[0]
        left = (kernel[1] - 1 - k % kernel[1]) * dilation[1]
        start = (0, top, left, k * c)
        limit = (len(x), top + x.shape[1], left + x.shape[2], (k + 1) * c)
        total += lax.slice(columns, start, limit).astype(jnp.float32)
    return total.astype(x.dtype)


def _kernel_gradient(x, w, dy, strides, padding, dilation, precision):
    n = len(strides)
    sides = []
    for i in range(n):
        low = padding[i][0]
        reach = (w.shape[i] - 1) * dilation[i] + (dy.shape[i + 1] - 1) * strides[i] + 1
        sides.append((low, reach - x.shape[i + 1] - low))
    x = _pad(x, sides, (1,) * n)
    few = n == 2 and x.shape[-1] >= 16 and math.prod(w.shape[:2]) <= 25
    if few and devices_along("batch") == 1:  # a loop over clips would gather them
        return _patches_gradient(x, w, dy, strides, dilation, precision)
    # `x` convolved with `dy`: channels take the part of the batch.
    x = x.swapaxes(0, -1)  # [C_in, *spatial, B]
    dy = jnp.moveaxis(dy, 0, -2)  # [*spatial', B, C_out]
    dw = _conv(x, dy, dilation, ((0, 0),) * n, strides, precision)
    return jnp.moveaxis(dw, 0, -2).astype(w.dtype)  # from [C_in, *window, C_out]


def _patches_gradient(x, w, dy, strides, dilation, precision):
    """Matrix products of patches and `dy`, a block of rows at a time.

    Blocks of about a thousand patches stay in cache; all patches would take
    ``window`` times the memory of `x`.
    """
    kernel = w.shape[:2]
    b, h, width, features = dy.shape
    rows = max(
        r for r in range(1, h + 1) if h % r == 0 and (r == 1 or r * width < 1100)
    )
    blocks = h // rows
    images = max(
        n for n in range(1, b + 1) if b % n == 0 and (n == 1 or n * h * width < 1100)
    )
    positions = images * rows * width
    dy = dy.reshape(-1, positions, features)
    reach = (rows - 1) * strides[0] + (kernel[0] - 1) * dilation[0] + 1

    def add(total, i):
        start = (i // blocks * images, i % blocks * rows * strides[0], 0, 0)
        part = lax.dynamic_slice(x, start, (images, reach, *x.shape[2:]))
        patches = [
            lax.slice(
                part,
                (0, top, left, 0),
                (
                    images,
                    top + (rows - 1) * strides[0] + 1,
                    left + (width - 1) * strides[1] + 1,
                    x.shape[-1],
                ),
                (1, *strides, 1),
            )
            for top in range(0, kernel[0] * dilation[0], dilation[0])
            for left in range(0, kernel[1] * dilation[1], dilation[1])
        ]
        patches = jnp.concatenate(patches, -1).reshape(positions, -1)
        pair = patches, lax.dynamic_index_in_dim(dy, i, keepdims=False)
        part = lax.dot_general(
            *(pair[::-1] if narrow else pair),
            (((0,), (0,)), ((), ())),
            precision=precision,
            preferred_element_type=total.dtype,
        )
        return total + part, None

    wide = jnp.promote_types(w.dtype, jnp.float32)
    shape = math.prod(w.shape[:-1]), features
    narrow = features <= 64  # transposed: XLA:CPU shares rows among its threads
    total = jnp.zeros(shape[::-1] if narrow else shape, wide)
    total, _ = lax.scan(add, total, jnp.arange(len(dy)))
    total = total.T if narrow else total
    return total.reshape(w.shape).astype(w.dtype)


def _pad(x, sides, strides):
    """Zeros around (negative: cropped) and between the values."""
    inner = [(low, high, s - 1) for (low, high), s in zip(sides, strides, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])
