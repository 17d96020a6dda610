"""Depthwise convolution by hand for a TPU's vector unit (Pallas), and its gradients.

Channels lie along the 128 lanes of a register, 8 neighbouring columns of a row along
its sublanes. A step of the grid has some frames of 128 channels: it writes them as
float32 into scratch memory, between zeros, reads each row once for each column of the
kernel (a load may start at any sublane) and adds it to as many rows of the result,
which stay in registers, as the kernel has rows. Rows of zeros are left out where a
chunk is a whole map: half the taps of a dilated 7x7 on 16x16. With kernels in time the
scratch memory is a ring of the last frames, each fetched once. Maps of 64 channels
share the lanes in pairs, one of each half of the batch.

By the count of the instructions that Mosaic makes, a tap of a register takes about 0.6
cycles on v5e, where XLA's own form takes 2 by its estimate; what was compared is in
experiments/benchmarks/tpu_attempts.md. Products and sums are float32.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from stjax.ops.depthwise_plan import SUBLANES, Plan, make_plan
from stjax.sharding.activations import devices_along, free_axes

_ACCUMULATORS = 25  # of a kernel's gradient, in registers
_UNROLLED = 16  # rows that are copied without a loop


_STATIC = ("padding", "dilation", "interpret")


def spread_forward(
    x: jax.Array, w: jax.Array, b: jax.Array | None = None, **fields: object
) -> jax.Array:
    """`forward`; under a mesh, on each device with its clips."""
    batch = free_axes("batch")
    f = partial(forward, **fields)
    b = jnp.zeros(w.shape[-1], w.dtype) if b is None else b
    if devices_along("everything") == 1:
        return f(x, w, b)
    clips, whole = PartitionSpec(batch), PartitionSpec()
    specs = (clips, whole, whole)
    return jax.shard_map(f, in_specs=specs, out_specs=clips, check_vma=False)(x, w, b)


def spread_gradient(
    x: jax.Array, w: jax.Array, dy: jax.Array, **fields: object
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`gradient`; under a mesh, on each device with its clips."""
    batch = free_axes("batch")
    f = partial(gradient, **fields)
    if devices_along("everything") == 1:
        return f(x, w, dy)

    def local(x, w, dy):
        dx, *sums = f(x, w, dy)
        return dx, *lax.psum(sums, batch)

    clips, whole = PartitionSpec(batch), PartitionSpec()
    return jax.shard_map(
        local,
        in_specs=(clips, whole, clips),
        out_specs=(clips, whole, whole),
        check_vma=False,
    )(x, w, dy)


@partial(jax.jit, static_argnames=_STATIC)  # traced once for all blocks
def forward(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array,
    *,
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    interpret: bool = False,
) -> jax.Array:
    """``conv(x) + b`` of `stjax.ops.depthwise.depthwise`, where `make_plan` takes it.

    Args:
      x: [B, H, W, C] or [B, T, H, W, C].
      w: [*window, 1, C].
      b: [C].
      padding: (low, high) for each spatial dimension.
      dilation: of the kernel.
      interpret: compute it anywhere, slowly, for tests.
    """
    plan = make_plan(x.shape, x.dtype, w.shape, padding, dilation)
    weights = jnp.concatenate(
        [v.reshape(-1, w.shape[-1]).astype(jnp.float32) for v in (w, b)]
    )
    if plan.pair:
        weights = jnp.concatenate([weights, weights], -1)
    grid = (plan.batch, plan.blocks, plan.parts, plan.steps)
    y = pl.pallas_call(
        partial(_forward_kernel, plan=plan),
        grid=grid,
        in_specs=[
            _frames(plan, False, lambda b, c, i, s: (b, c, i, s)),
            pl.BlockSpec((plan.taps + 1, plan.lanes), lambda b, c, i, s: (0, c)),
        ],
        out_specs=_frames(plan, True, lambda b, c, i, s: (b, c, i, s)),
        out_shape=jax.ShapeDtypeStruct(plan.result, x.dtype),
        scratch_shapes=[pltpu.VMEM(plan.ring, jnp.float32)],
        compiler_params=_semantics("parallel", "parallel", "parallel", "arbitrary"),
        cost_estimate=_cost(plan, x.dtype),
        interpret=interpret,
        name="depthwise_forward",
    )(x.reshape(plan.shape), weights)
    frames = x.shape[:-3] if plan.window[0] == 1 else plan.result[:2]
    return y.reshape(*frames, *plan.result[2:])


@partial(jax.jit, static_argnames=_STATIC)
def gradient(
    x: jax.Array,
    w: jax.Array,
    dy: jax.Array,
    *,
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of `forward` with respect to `x`, `w` and `b`, for `dy` of its result.

    Those of `w` and `b` are float32.
    """
    window = w.shape[:-2]
    reach = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    back = tuple(
        (r - low, r - high) for r, (low, high) in zip(reach, padding, strict=True)
    )
    turned = jnp.flip(w, tuple(range(len(window))))
    zeros = jnp.zeros(w.shape[-1], jnp.float32)
    dx = forward(
        dy, turned, zeros, padding=back, dilation=dilation, interpret=interpret
    )
    plan = make_plan(x.shape, x.dtype, w.shape, padding, dilation)
    sums = _sums(plan, x, dy, interpret)
    return dx.astype(x.dtype), sums[: plan.taps].reshape(w.shape), sums[plan.taps]


def _sums(plan: Plan, x: jax.Array, dy: jax.Array, interpret: bool) -> jax.Array:
    """Gradients of the kernel's taps and of the bias, [taps + 1, C] float32."""
    sums = pl.pallas_call(
        partial(_gradient_kernel, plan=plan),
        grid=(plan.blocks, plan.batch, plan.parts, plan.steps),
        in_specs=[
            _frames(plan, False, lambda c, b, i, s: (b, c, i, s)),
            _frames(plan, True, lambda c, b, i, s: (b, c, i, s)),
        ],
        out_specs=pl.BlockSpec((plan.taps + 1, plan.lanes), lambda c, b, i, s: (0, c)),
        out_shape=jax.ShapeDtypeStruct(
            (plan.taps + 1, plan.shape[-1] * (1 + plan.pair)), jnp.float32
        ),
        scratch_shapes=[
            pltpu.VMEM(plan.ring, jnp.float32),
            pltpu.VMEM((plan.part, plan.wide, plan.lanes), jnp.float32),
            pltpu.VMEM((plan.taps + 1, SUBLANES, plan.lanes), jnp.float32),
        ],
        compiler_params=_semantics("parallel", "arbitrary", "arbitrary", "arbitrary"),
        cost_estimate=_cost(plan, x.dtype),
        interpret=interpret,
        name="depthwise_kernel_gradient",
    )(x.reshape(plan.shape), dy.reshape(plan.result))
    return sums.reshape(plan.taps + 1, 1 + plan.pair, -1).sum(1)


def _frames(plan: Plan, result: bool, order: Callable) -> pl.BlockSpec:
    """Frames of a step. Those of the result lag behind; both stay in their range."""

    def index(*ids):
        b, c, i, s = order(*ids)
        if plan.window[0] == 1:
            return b, s, i if result else 0, 0, c
        if result:
            return b, jnp.maximum(s - plan.ahead, 0), i, 0, c
        return b, jnp.minimum(s, plan.shape[1] - 1), 0, 0, c

    _, _, h, w, _ = plan.result if result else plan.shape
    rows = plan.part if result else h
    return pl.BlockSpec((1 + plan.pair, plan.frames, rows, w, plan.channels), index)


def _semantics(*kinds: str) -> pltpu.CompilerParams:
    return pltpu.CompilerParams(dimension_semantics=kinds)


def _cost(plan: Plan, dtype: jnp.dtype) -> pl.CostEstimate:
    sizes = math.prod(plan.shape), math.prod(plan.result)
    return pl.CostEstimate(
        flops=2 * plan.taps * sizes[1],
        transcendentals=0,
        bytes_accessed=sum(sizes) * jnp.dtype(dtype).itemsize,
    )


@dataclasses.dataclass(frozen=True)
class _Step:
    """What both kernels do in a step of the grid.

    Attributes:
      plan: of the whole.
      part: number of the step along rows.
      number: in time.
    """

    plan: Plan
    part: jax.Array
    number: jax.Array

    def start(self, ring: jax.Ref, *others: jax.Ref) -> None:
        """Zeros everywhere, before the first frames of a map."""

        @pl.when(self.number == 0)
        def _():
            for ref in (ring, *others):
                _clear(ref)

    def fetch(self, x_ref: jax.Ref, ring: jax.Ref, g: jax.Array) -> None:
        """Writes frame `g` of the block into the ring."""
        plan, (_, _, h, w, _) = self.plan, self.plan.shape
        slot = lax.rem(self.number, plan.window[0])
        columns = pl.ds(plan.left, w)
        top = plan.low[1]

        def whole(i, _):
            ring[slot, i + top, columns] = _row(x_ref, g, i)
            return 0

        def some(i, _):  # of a part: rows around it, some of them outside the map
            row = i + self.part * plan.part - top
            inside = (row >= 0) & (row < h)

            @pl.when(inside)
            def _():
                ring[slot, i, columns] = _row(x_ref, g, row)

            @pl.when(jnp.logical_not(inside))
            def _():
                ring[slot, i] = jnp.zeros(ring.shape[2:], jnp.float32)

            return 0

        def all_rows():
            if plan.parts == 1:
                lax.fori_loop(0, h, whole, 0, unroll=h <= _UNROLLED)
            else:
                lax.fori_loop(0, plan.ring[1], some, 0)

        if plan.window[0] == 1:
            all_rows()
            return
        pl.when(self.number < plan.shape[1])(all_rows)

        @pl.when(self.number >= plan.shape[1])
        def _():
            _clear(ring.at[slot])

    def planes(self, turn: Callable, carry: object) -> object:
        """`turn(k, slot of its frame, carry)` for each plane of the kernel."""
        kt = self.plan.window[0]
        if kt == 1:
            return turn(0, 0, carry)

        def at(k, carry):
            return turn(k, lax.rem(self.number + 1 + k, kt), carry)

        return lax.fori_loop(0, kt, at, carry)

    def run(self, image: Callable) -> None:
        """`image(g)` for each frame of the block whose result can be computed."""
        plan = self.plan
        if plan.frames > 1:
            lax.fori_loop(0, plan.frames, lambda g, _: image(g) or 0, 0)
        else:
            image(0)

    def reads(self, rows: int) -> list[tuple[int, list[tuple[int, int]]]]:
        """Rows of the scratch memory, and (row of the kernel, row of the result) each.

        Of a chunk of `rows` rows of the result; without rows of zeros where that is
        the whole map.
        """
        (_, kh, _), dh, top = self.plan.window, self.plan.dilation[0], self.plan.low[1]
        found = []
        for r in range(rows + (kh - 1) * dh):
            users = [(m, r - m * dh) for m in range(kh) if 0 <= r - m * dh < rows]
            zeros = not top <= r < top + self.plan.shape[2]
            if users and not (zeros and rows == self.plan.result[2]):
                found.append((r, users))
        return found

    def columns(self, j: int, start: int, count: int) -> pl.Slice:
        """Of the scratch memory, for column `j` of the kernel."""
        plan = self.plan
        return pl.ds(plan.left - plan.low[2] + j * plan.dilation[1] + start, count)


def _chunks(count: int, turn: Callable) -> None:
    if count == 1:
        turn(0)
    else:
        lax.fori_loop(0, count, lambda i, _: turn(i) or 0, 0)


def _clear(ref: jax.Ref) -> None:
    """Zeros, a plane of the first axis at a time: not a page of stores."""

    def turn(i, _):
        ref[i] = jnp.zeros(ref.shape[1:], ref.dtype)
        return 0

    if len(ref.shape) > 3:
        lax.fori_loop(0, ref.shape[0], lambda i, _: _clear(ref.at[i]) or 0, 0)
    else:
        lax.fori_loop(0, ref.shape[0], turn, 0)


def _row(ref: jax.Ref, g: jax.Array, h: jax.Array) -> jax.Array:
    """[W, lanes] float32."""
    parts = [ref[n, g, h].astype(jnp.float32) for n in range(ref.shape[0])]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


def _forward_kernel(x_ref, w_ref, y_ref, ring, *, plan: Plan):
    step, (_, kh, kw) = _Step(plan, pl.program_id(2), pl.program_id(3)), plan.window
    step.start(ring)

    def image(g):
        step.fetch(x_ref, ring, g)
        pl.when(step.number >= plan.ahead)(
            lambda: _chunks(plan.chunks, partial(rows, g))
        )

    def rows(g, i):
        first = i * plan.rows

        def plane(k, slot, total):
            total = list(total)
            for j in range(kw):
                for r, users in step.reads(plan.rows):
                    x = ring[slot, first + r, step.columns(j, 0, plan.wide)]
                    for m, row in users:
                        tap = w_ref[pl.ds((k * kh + m) * kw + j, 1)]
                        total[row] = total[row] + x * tap
            return tuple(total)

        bias = jnp.broadcast_to(w_ref[pl.ds(plan.taps, 1)], (plan.wide, plan.lanes))
        for r, total in enumerate(step.planes(plane, (bias,) * plan.rows)):
            y = total[: plan.result[3]].astype(y_ref.dtype)
            for n in range(1 + plan.pair):
                lanes = slice(n * plan.channels, (n + 1) * plan.channels)
                y_ref[n, g, first + r] = y[:, lanes]

    step.run(image)


def _gradient_kernel(x_ref, dy_ref, dw_ref, ring, dy, sums, *, plan: Plan):
    ids = [pl.program_id(n) for n in (1, 2, 3)]
    step, (_, kh, kw) = _Step(plan, *ids[1:]), plan.window
    step.start(ring, dy)
    last = [n - 1 for n in (plan.batch, plan.parts, plan.steps)]

    @pl.when(sum(ids) == 0)
    def _():
        _clear(sums)

    def image(g):
        step.fetch(x_ref, ring, g)
        pl.when(step.number >= plan.ahead)(lambda: products(g))

    def products(g):
        def put(h, _):
            dy[h, : plan.result[3]] = _row(dy_ref, g, h)
            return 0

        lax.fori_loop(0, plan.part, put, 0, unroll=plan.part <= _UNROLLED)
        sums[plan.taps] = lax.fori_loop(0, plan.part, add, sums[plan.taps])
        step.planes(plane, 0)

    def add(h, total):
        for v in range(0, plan.wide, SUBLANES):
            total = total + dy[h, pl.ds(v, SUBLANES)]
        return total

    def plane(k, slot, carry):
        _chunks(plan.part // plan.tall, partial(rows, k, slot))
        return carry

    def rows(k, slot, i):
        first, count = i * plan.tall, max(1, _ACCUMULATORS // kh)
        for start in range(0, kw, count):
            columns = range(start, min(start + count, kw))
            taps = {(m, j): (k * kh + m) * kw + j for m in range(kh) for j in columns}
            total = {tap: sums[place] for tap, place in taps.items()}
            for v in range(0, plan.wide, SUBLANES):
                cells = pl.ds(v, SUBLANES)
                given = [dy[first + r, cells] for r in range(plan.tall)]
                for j in columns:
                    for r, users in step.reads(plan.tall):
                        x = ring[slot, first + r, step.columns(j, v, SUBLANES)]
                        for m, row in users:
                            total[m, j] = total[m, j] + x * given[row]
            for tap, place in taps.items():
                sums[place] = total[tap]

    step.run(image)

    @pl.when(sum(ids) == sum(last))
    def _():
        dw_ref[...] = sums[...].sum(1)
