"""What the TPU kernels of `stjax.ops.depthwise_kernel` do in a step of their grid."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from stjax.ops.depthwise_plan import SUBLANES, Plan

_ACCUMULATORS = 25  # of a kernel's gradient, in registers
_UNROLLED = 16  # rows that are copied without a loop


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


def forward_step(
    x_ref: jax.Ref, w_ref: jax.Ref, y_ref: jax.Ref, ring: jax.Ref, *, plan: Plan
) -> None:
    """Rows of the result, of one block of channels.

    Args:
      x_ref: frames, [1 or a pair, frames, H, W, channels].
      w_ref: taps and the bias, [taps + 1, lanes].
      y_ref: rows of the result, [1 or a pair, frames, part, W', channels].
      ring: scratch memory, of the shape of ``plan.ring``.
      plan: of the whole.
    """
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


def gradient_step(
    x_ref: jax.Ref,
    dy_ref: jax.Ref,
    dw_ref: jax.Ref,
    ring: jax.Ref,
    dy: jax.Ref,
    sums: jax.Ref,
    *,
    plan: Plan,
) -> None:
    """Gradients of taps and bias, of one block of channels, at the last step.

    Args:
      x_ref: frames, as in `forward_step`.
      dy_ref: rows of the result's gradient.
      dw_ref: [taps + 1, lanes].
      ring: scratch memory for frames.
      dy: for rows, [part, W', lanes].
      sums: for what `dw_ref` gets, [taps + 1, 8, lanes].
      plan: of the whole.
    """
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
