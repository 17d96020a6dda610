"""One convolution entry, 2-D and 3-D, with exact implementations per platform.

``nn.Conv(..., conv_general_dilated=conv_nd)`` uses it without a change to the
parameter tree. All implementations compute the same sums; only their order, hence
rounding, differs. ``impl='auto'`` chooses by the platform that the program is
*lowered for* (`jax.lax.platform_dependent`), never by the one it is traced on:

==================================  ===========  =============  ========
case                                cpu          tpu            cuda
==================================  ===========  =============  ========
depthwise, stride 1                 shift        kernel, or     native
                                                 native (2-D)
                                                 slices (3-D)
grouped (1 < groups < channels)     split        native         split
few channels, strides (3-D)         cells        frames         as below
kernel = stride, 2-D or 3-D         cells        frames, or     native
                                                 native
dense 3-D, ``kt > 1``, ``kh > 1``   slices       slices         native
only temporal, to no more channels  temporal     native         native
1 x 1 with strides                  strided      native         native
dense 3-D, others, temporal stride  slices       native         native
pointwise (1 x 1, stride 1)         dot          native         native
input dilation                      spread       native         native
everything else                     dense        native         native
==================================  ===========  =============  ========

- shift: a sum of shifted, scaled copies. XLA:CPU's depthwise loop is 7 to 200 times
  slower than this. Where a mesh splits the rows, native (3-D: slices): each tap would
  be a message.
- kernel: by hand, for a TPU's vector unit; see `stjax.ops.depthwise_kernel` and, for
  what it takes, `stjax.ops.depthwise_plan`.
- slices: a 3-D convolution as a sum over its temporal taps of 2-D ones with time
  folded into the batch.
- cells, frames, temporal, strided: products or denser convolutions after moving data,
  see `stjax.ops.rearranged`. Not where a mesh splits the rows; frames to 16 channels.
- dot: a matrix product over channels, up to twice as fast as XLA:CPU's convolution.
- dense: XLA's, with gradients that are quick inside loops too, see `stjax.ops.dense`.
- spread: zeros are written between the inputs; XLA:CPU is slow at imagining them.
- split: one dense convolution a group. XLA's grouped convolution gathers the whole
  batch on every device under data parallelism on CPU and GPU.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.ops import rearranged
from stjax.ops.dense import dense, pointwise
from stjax.ops.depthwise import MAX_TAPS, depthwise
from stjax.ops.depthwise_plan import uses_kernel
from stjax.sharding.activations import constrain, devices_along

IMPLS = ("auto", "native", "shift", "slices", "split", "dot", *rearranged.FORMS)


def conv_nd(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: object = None,
    feature_group_count: int = 1,
    precision: object = None,
    *,
    impl: str = "auto",
) -> jax.Array:
    """Convolution with the signature that `flax.linen.Conv` calls.

    Args:
      lhs: input ``[B, *spatial, C_in]``, channels last, 1 to 3 spatial dimensions.
      rhs: kernel ``[*window, C_in / groups, C_out]``.
      window_strides: a stride for each spatial dimension.
      padding: ``"SAME"``, ``"VALID"`` or (low, high) pairs.
      lhs_dilation: input dilation (transposed convolution).
      rhs_dilation: kernel dilation.
      dimension_numbers: as Flax passes them; channels last is the only layout.
      feature_group_count: groups; equal to C_in for depthwise.
      precision: as in `jax.lax.conv_general_dilated`.
      impl: one of `IMPLS`; anything but ``"auto"`` is taken on every platform.

    Returns:
      ``[B, *spatial', C_out]``.

    Raises:
      ValueError: if `impl` is unknown or cannot compute this convolution.
    """
    nd = lhs.ndim - 2
    if devices_along("parameters") > 1:
        rhs = constrain(rhs)  # or XLA may gather activations, not the kernel
    strides = tuple(window_strides)
    dilation = tuple(rhs_dilation or (1,) * nd)
    window = rhs.shape[:nd]
    if isinstance(padding, str):
        effective = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], effective, strides, padding)
    padding = tuple((int(low), int(high)) for low, high in padding)
    native = partial(
        _native,
        strides=strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        dilation=dilation,
        groups=feature_group_count,
        precision=precision,
    )
    if impl not in IMPLS:
        raise ValueError(f"impl {impl!r} is none of {', '.join(IMPLS)}")
    plain = lhs_dilation is None or all(d == 1 for d in lhs_dilation)
    if impl == "native":
        return native(lhs, rhs)
    if not plain:
        _only(impl, "auto")
        spread = partial(_spread, native=native, factors=tuple(lhs_dilation))
        return lax.platform_dependent(lhs, rhs, cpu=spread, default=native)

    args = (strides, padding, dilation, precision)
    if feature_group_count > 1 and feature_group_count == lhs.shape[-1]:
        return _depthwise(lhs, rhs, *args, impl, native)
    if feature_group_count > 1:
        split = partial(_split, args=args, groups=feature_group_count)
        if impl == "split":
            return split(lhs, rhs)
        _only(impl, "auto")
        return lax.platform_dependent(lhs, rhs, tpu=native, default=split)
    slices = partial(_slices, args=args, groups=1)
    if impl == "slices":
        if nd != 3:
            raise ValueError("impl 'slices' needs 3-D")
        return slices(lhs, rhs)
    form = rearranged.choose(lhs.shape, rhs.shape, *args[:3])
    cpu, more = slices if nd == 3 else None, {}
    if form and devices_along("height") == 1:
        cpu = partial(_moved, form=form, args=args)
        if form == "cells" and lhs.shape[-1] <= rearranged.FEW:
            more["tpu"] = partial(_moved, form="frames", args=args)
    if impl in rearranged.FORMS:
        _only(impl, form, "frames" if form == "cells" else form)
        return _moved(lhs, rhs, form=impl, args=args)
    if impl == "auto" and nd == 3 and strides[0] == 1 and _worth_slicing(window):
        more.setdefault("tpu", slices)
        return lax.platform_dependent(lhs, rhs, cpu=cpu, default=native, **more)
    if set(window) == set(strides) == {1} and not any(map(any, padding)):
        dot = partial(pointwise, precision=precision)
        if impl == "dot":
            return dot(lhs, rhs)
        if devices_along("height") > 1:  # rows of several devices cannot be merged
            return native(lhs, rhs)
        return lax.platform_dependent(lhs, rhs, cpu=dot, default=native)
    _only(impl, "auto")
    plain = partial(
        dense,
        strides=strides,
        padding=padding,
        dilation=dilation,
        precision=precision,
    )
    if cpu:
        return lax.platform_dependent(lhs, rhs, cpu=cpu, default=plain, **more)
    return plain(lhs, rhs)


def _moved(x, w, *, form, args):
    return rearranged.FORMS[form](x, w, *args)


def _spread(x, w, *, native, factors):
    """Input dilation written out."""
    inner = [(0, 0, d - 1) for d in factors]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])
    given = native.keywords
    return conv_nd(
        x,
        w,
        given["strides"],
        given["padding"],
        rhs_dilation=given["dilation"],
        feature_group_count=given["groups"],
        precision=given["precision"],
    )


def _worth_slicing(window: Sequence[int]) -> bool:
    # Purely temporal kernels are fastest as they are (3 x on a TPU).
    return window[0] > 1 and window[1] > 1


def _only(impl: str, *allowed: str) -> None:
    if impl not in allowed:
        raise ValueError(f"impl {impl!r} does not apply to this convolution")


def _native(x, w, *, strides, padding, lhs_dilation, dilation, groups, precision):
    nd = x.ndim - 2
    spec = "DHW"[3 - nd :]
    return lax.conv_general_dilated(
        x,
        w,
        strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{spec}C", f"{spec}IO", f"N{spec}C"),
        feature_group_count=groups,
        precision=precision,
    )


def _depthwise(x, w, strides, padding, dilation, precision, impl, native):
    multiplier = w.shape[-1] // x.shape[-1]
    if multiplier > 1:  # output channel c * m + j reads input channel c
        x = jnp.repeat(x, multiplier, axis=-1)
    few = math.prod(w.shape[1:-2]) <= MAX_TAPS  # in a plane
    three_d = x.ndim == 5
    slices = partial(
        _slices, args=(strides, padding, dilation, precision), groups=x.shape[-1]
    )
    shift = partial(depthwise, padding=padding, dilation=dilation)
    if all(s == 1 for s in strides):
        if impl == "shift":
            return shift(x, w, impl="shift")
        if impl == "auto" and few and not three_d:
            return shift(x, w, impl="auto")
        if impl == "auto" and three_d:
            whole = devices_along("height") == 1
            cpu = partial(shift, impl="shift") if few and whole else slices
            by_hand = uses_kernel(x.shape, x.dtype, w.shape, padding, dilation)
            return lax.platform_dependent(
                x,
                w,
                cpu=cpu,
                cuda=_native_groups(native, x.shape[-1]),
                tpu=partial(shift, impl="kernel") if by_hand else slices,
                default=slices,
            )
        if impl == "slices" and three_d:
            return slices(x, w)
    _only(impl, "auto")
    return _native_groups(native, x.shape[-1])(x, w)


def _native_groups(native, groups):
    return partial(native.func, **{**native.keywords, "groups": groups})


def _split(x, w, *, args, groups):
    """One dense convolution a group."""
    strides, padding, dilation, precision = args
    parts = [
        _native(
            xi,
            wi,
            strides=strides,
            padding=padding,
            lhs_dilation=None,
            dilation=dilation,
            groups=1,
            precision=precision,
        )
        for xi, wi in zip(
            jnp.split(x, groups, axis=-1), jnp.split(w, groups, axis=-1), strict=True
        )
    ]
    return jnp.concatenate(parts, axis=-1)


def _slices(x, w, *, args, groups):
    """A 3-D convolution as a sum over temporal taps of 2-D ones, float32 sum."""
    strides, padding, dilation, precision = args
    b, t = x.shape[:2]
    kt, dt, st = w.shape[0], dilation[0], strides[0]
    if any(padding[0]):
        x = jnp.pad(x, ((0, 0), padding[0], (0, 0), (0, 0), (0, 0)))
    t_out = (t + sum(padding[0]) - (kt - 1) * dt - 1) // st + 1
    reach = (t_out - 1) * st + 1
    total = 0.0
    for i in range(kt):
        frames = lax.slice_in_dim(x, i * dt, i * dt + reach, st, axis=1)
        y = conv_nd(
            frames.reshape(b * t_out, *x.shape[2:]),
            w[i],
            strides[1:],
            padding[1:],
            rhs_dilation=dilation[1:],
            feature_group_count=groups,
            precision=precision,
        )
        total = total + y.astype(jnp.float32)
    return total.astype(y.dtype).reshape(b, t_out, *y.shape[1:])
