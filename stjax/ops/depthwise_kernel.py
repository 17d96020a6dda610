"""Depthwise convolution by hand for a TPU's vector unit (Pallas), and its gradients.

Channels lie along the 128 lanes of a register, 8 neighbouring columns of a row along
its sublanes. A step of the grid has some frames of 128 channels: it writes them as
float32 into scratch memory, between zeros, reads each row once for each column of the
kernel (a load may start at any sublane) and adds it to as many rows of the result,
which stay in registers, as the kernel has rows. Rows of zeros are left out where a
chunk is a whole map: half the taps of a dilated 7x7 on 16x16. With kernels in time the
scratch memory is a ring of the last frames, each fetched once. Maps of 64 channels
share the lanes in pairs of clips.

By the count of the instructions that Mosaic makes, a tap of a register takes about 0.6
cycles on v5e, where XLA's own form takes 2 by its estimate; what was compared is in
experiments/benchmarks/tpu_attempts.md. Products and sums are float32.
"""

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
from stjax.ops.depthwise_steps import forward_step, gradient_step
from stjax.sharding.activations import devices_along, free_axes

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
      w: ``[*window, 1, C]``.
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
        partial(forward_step, plan=plan),
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
        partial(gradient_step, plan=plan),
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
