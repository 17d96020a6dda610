"""How the TPU kernels of `stjax.ops.depthwise_kernel` divide a convolution."""

import dataclasses
import functools
import importlib.util
import math
import os
from collections.abc import Sequence

import jax.numpy as jnp

from stjax.sharding.activations import devices_along

LANES = 128
SUBLANES = 8

MAX_TAPS = 49  # of a plane; they are unrolled
_MIN_TAPS = 25
"""Of fewer, XLA's own form is as good: it fuses what is before and after into it."""
_WIDTHS = 5, 32 * SUBLANES  # of maps
_MIN_CHANNELS = 64  # fewer leave more than half of the lanes empty
_REGISTERS = 32  # for sums; there are 64
_TALL = 16  # rows of the result that the kernel's gradient holds
_VMEM = 13 * 2**20  # bytes of the 16 MiB that a kernel may use on any TPU
_BLOCK = 2**20  # bytes that a step is worth


@dataclasses.dataclass(frozen=True)
class Plan:
    """A convolution and its division.

    Attributes:
      shape: of the input, [B, T, H, W, C]; without a kernel in time, T is the batch.
      result: the same of the result.
      window: of the kernel in time, height and width.
      dilation: in height and width.
      low: padding before time, height and width.
      pair: two clips share the lanes.
      channels: of a block.
      frames: of a block.
      part: rows of the result in a step.
      rows: of the result in registers.
      tall: the same in the gradient of the kernel.
    """

    shape: tuple[int, ...]
    result: tuple[int, ...]
    window: tuple[int, int, int]
    dilation: tuple[int, int]
    low: tuple[int, int, int]
    pair: bool
    channels: int
    frames: int = 1
    part: int = 1
    rows: int = 1
    tall: int = 1

    @property
    def taps(self) -> int:
        """Of the kernel."""
        return math.prod(self.window)

    @property
    def lanes(self) -> int:
        """In use."""
        return self.channels * (1 + self.pair)

    @property
    def batch(self) -> int:
        """Steps of the grid along the batch."""
        return self.shape[0] // (1 + self.pair)

    @property
    def blocks(self) -> int:
        """Steps along channels."""
        return -(-self.shape[-1] // self.channels)

    @property
    def parts(self) -> int:
        """Steps along rows."""
        return self.result[2] // self.part

    @property
    def ahead(self) -> int:
        """Frames to be fetched before the first can be computed."""
        return self.window[0] - 1 - self.low[0]

    @property
    def steps(self) -> int:
        """Steps in time."""
        if self.window[0] == 1:
            return self.shape[1] // self.frames
        return self.result[1] + self.ahead

    @property
    def chunks(self) -> int:
        """Turns along the rows of a step."""
        return self.part // self.rows

    @property
    def wide(self) -> int:
        """Columns of the result, whole registers."""
        return _up(self.result[3], SUBLANES)

    @property
    def left(self) -> int:
        """Column of the scratch memory where a map begins."""
        return _up(self.low[2], SUBLANES)

    @property
    def ring(self) -> tuple[int, ...]:
        """Shape of the scratch memory for frames."""
        (kt, kh, kw), (dh, dw) = self.window, self.dilation
        read = self.left - self.low[2] + (kw - 1) * dw + self.wide
        columns = _up(max(read, self.left + self.shape[3]), SUBLANES)
        return kt, self.part + (kh - 1) * dh, columns, self.lanes

    def bytes(self, itemsize: int) -> int:
        """Of the vector memory, for the gradient of the kernel, which takes most."""
        padded = _up(self.lanes, LANES)
        count = math.prod(self.ring) + self.part * self.wide * padded
        count += (self.taps + 1) * SUBLANES * padded
        pixels = self.shape[2] * _up(self.shape[3], 16)
        pixels += self.part * _up(self.result[3], 16)
        blocks = pixels * _up(self.channels, LANES) * self.frames * (1 + self.pair)
        return 4 * count + 2 * itemsize * blocks


def uses_kernel(
    shape: Sequence[int],
    dtype: jnp.dtype,
    kernel: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> bool:
    """Whether a convolution is the kernels' where it is lowered for a TPU.

    It is where there are taps enough and a device's clips can be divided so that memory
    suffices, unless a mesh splits the rows, ``STJAX_TPU_KERNELS=0`` in the environment
    says no, or the compiler of TPUs is not installed: who has none should not wait for
    kernels to be traced. Arguments as of `make_plan`.
    """
    if not kernels_wanted() or devices_along("height") > 1:
        return False
    if math.prod(kernel[:-2]) < _MIN_TAPS:
        return False
    devices = devices_along("batch")
    if not isinstance(shape[0], int) or shape[0] % devices:
        return False
    shape = (shape[0] // devices, *shape[1:])
    return make_plan(shape, dtype, kernel, padding, dilation) is not None


def kernels_wanted() -> bool:
    """Whether programs may have kernels for a TPU, see `uses_kernel`."""
    return os.environ.get("STJAX_TPU_KERNELS") != "0" and _has_compiler()


@functools.cache
def _has_compiler():
    return importlib.util.find_spec("libtpu") is not None


def make_plan(
    shape: Sequence[int],
    dtype: jnp.dtype,
    kernel: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> Plan | None:
    """The division of a convolution; None for what the kernels cannot take.

    Args:
      shape: of x, [B, H, W, C] or [B, T, H, W, C].
      dtype: of x.
      kernel: shape of the kernel, ``[*window, 1, C]``.
      padding: (low, high) of each spatial dimension.
      dilation: of the kernel.
    """
    if not _takes(shape, dtype, kernel, padding, dilation):
        return None
    nd = len(shape) - 2
    window = (1,) * (3 - nd) + tuple(kernel[:nd])
    dilation = (1,) * (3 - nd) + tuple(dilation)
    padding = ((0, 0),) * (3 - nd) + tuple(padding)
    b, t, h, w, c = shape if nd == 3 else (1, *shape)
    if window[0] == 1:
        b, t = 1, b * t
    pair = 2 * c == LANES and (b * (t if window[0] == 1 else 1)) % 2 == 0
    if window[0] == 1 and pair:
        b, t = 2, t // 2
    sizes = [
        n + low + high - (k - 1) * d
        for n, (low, high), k, d in zip(
            (t, h, w), padding, window, dilation, strict=True
        )
    ]
    plan = Plan(
        shape=(b, t, h, w, c),
        result=(b, *sizes, c),
        window=window,
        dilation=dilation[1:],
        low=tuple(low for low, _ in padding),
        pair=pair,
        channels=min(c, LANES),
    )
    return _divided(plan, jnp.dtype(dtype).itemsize)


def _takes(shape, dtype, kernel, padding, dilation):
    nd = len(shape) - 2
    if nd not in (2, 3) or not all(isinstance(n, int) for n in shape):
        return False  # or of symbolic shape
    window = kernel[:nd]
    if nd == 3 and dilation[0] != 1 or math.prod(window[-2:]) > MAX_TAPS:
        return False
    within = all(
        0 <= low <= (k - 1) * d and 0 <= high <= (k - 1) * d
        for (low, high), k, d in zip(padding, window, dilation, strict=True)
    )
    sizes = [
        n + low + high - (k - 1) * d
        for n, (low, high), k, d in zip(
            shape[1:-1], padding, window, dilation, strict=True
        )
    ]
    wide = all(_WIDTHS[0] <= n <= _WIDTHS[1] for n in (shape[-2], sizes[-1]))
    kind = jnp.dtype(dtype) in (jnp.float32, jnp.bfloat16)
    fits = within and wide and min(*shape, *sizes) > 0
    return fits and kind and shape[-1] >= _MIN_CHANNELS


def _divided(plan: Plan, itemsize: int) -> Plan | None:
    parts = (_part(plan, part) for part in _divisors(plan.result[2]))
    fit = [made for made in parts if made.bytes(itemsize) <= _VMEM]
    if not fit:
        return None
    best = min(fit, key=_loads)
    if plan.window[0] > 1:
        return best
    frame = plan.shape[2] * _up(plan.shape[3], 16) * LANES * itemsize * (1 + plan.pair)
    for frames in _divisors(plan.shape[1]):
        made = dataclasses.replace(best, frames=frames)
        few = frames == 1 or frames * frame <= _BLOCK
        if few and made.bytes(itemsize) <= _VMEM:
            return made
    return None


def _part(plan: Plan, part: int) -> Plan:
    """With `part` rows of the result in a step."""
    wide = plan.wide // SUBLANES
    rows = next(n for n in _divisors(part) if n == 1 or n * wide <= _REGISTERS)
    tall = next(n for n in _divisors(part) if n <= _TALL)
    return dataclasses.replace(plan, part=part, rows=rows, tall=tall)


def _loads(plan: Plan) -> float:
    """From the scratch memory for a row of the result, and into it."""
    (kt, kh, kw), dh = plan.window, plan.dilation[0]
    reach = (kh - 1) * dh
    return kt * kw * (1 + reach / plan.rows) + 8 * (1 + reach / plan.part)


def _divisors(n: int) -> list[int]:
    """The largest first."""
    return [k for k in range(n, 0, -1) if n % k == 0]


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
