"""Multiply-adds of a function, counted in its jaxpr: no device, no run.

Convolutions and matrix products count, everything else is free. Tables of video
prediction print this number of one clip as "FLOPs"; real floating-point operations
are twice as many. A whole training step may be counted too, its gradient included.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core


def count_macs(function: Callable, *args: object, unread: bool = False) -> int:
    """Multiply-adds of ``function(*args)``.

    The body of a `lax.scan` counts once a step, that of a `jax.shard_map` once a
    device. Of the branches of a conditional the dearest counts: those of
    `jax.lax.platform_dependent` compute the same, and not all of them with
    convolutions. A transposed convolution counts its products with input cells, not
    those with the zeros between them. Of a gradient, what `jax.checkpoint` computes
    again counts again.

    Args:
      function: to be traced.
      *args: arrays, or their shapes (`jax.ShapeDtypeStruct`).
      unread: also count what no result depends on. No compiler keeps it: a gradient
        rule that calls `jax.vjp`, for one, leaves a forward pass that nobody reads.

    Raises:
      ValueError: a `lax.while_loop` with multiply-adds: nobody knows its length.
    """
    return macs_by_scope(function, *args, unread=unread).total()


def macs_by_scope(
    function: Callable, *args: object, unread: bool = False
) -> Counter[str]:
    """`count_macs` by the module that does them, from one trace.

    Of a template (``units="all"``) the entries at ``slot.name + "/" + module`` and
    below, for the modules of a path in `Slot.modules`, are what the path adds to a
    network that has it; what is in no slot every network has.

    Args:
      function: ``model.apply`` of a Flax model, or a partial of it.
      *args: as of `count_macs`.
      unread: likewise.

    Returns:
      Path of a module ("layer1_0/conv1"; "" is the model) -> its own multiply-adds,
      without those of modules inside; no entry without any. They are read off the name
      stacks, so that other `jax.named_scope`s count as modules. The total is that of
      `count_macs`.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    found = Counter()
    counted = _count(jaxpr, None if unread else [True] * len(jaxpr.outvars), "")
    for scope, macs in counted.items():
        found[_module_path(scope)] += macs
    return found


def _module_path(scope: str) -> str:
    """Model/Model.features/stage/conv -> stage/conv: methods are not modules."""
    path = []
    for part in scope.split("/"):
        name, dot, _ = part.partition(".")
        if not (dot and path and path[-1] == name):
            path.append(name)
    return "/".join(path[1:])


def model_macs(
    model: nn.Module, input_shape: tuple[int, ...], frames: int | None = None
) -> int:
    """Multiply-adds of one clip in inference, as the published numbers are.

    These come from programs that run everything: what only a training loss reads
    counts too.

    Args:
      model: a predictor.
      input_shape: (T_in, H, W, C), without batch.
      frames: that it predicts; None for as many as the model gives by itself.
    """
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(lambda k, x: model.init(k, x, frames=frames), key, x)
    predict = functools.partial(model.apply, frames=frames)
    return count_macs(predict, variables, x, unread=True)


def _count(jaxpr: core.Jaxpr, used: Sequence[bool] | None, scope: str) -> Counter[str]:
    """Of what the ``used`` outputs depend on; None: of everything."""
    total = Counter()
    if used is None:
        for eqn in jaxpr.eqns:
            total.update(_of_equation(eqn, None, scope))
        return total
    live = {v for v, u in zip(jaxpr.outvars, used, strict=True) if u and _is_var(v)}
    for eqn in reversed(jaxpr.eqns):
        wanted = [v in live for v in eqn.outvars]
        if any(wanted) or eqn.effects:
            total.update(_of_equation(eqn, wanted, scope))
            live.update(filter(_is_var, eqn.invars))
    return total


def _of_equation(
    eqn: core.JaxprEqn, wanted: Sequence[bool] | None, scope: str
) -> Counter[str]:
    kind = eqn.primitive.name
    scope = "/".join(filter(None, (scope, str(eqn.source_info.name_stack))))
    if kind == "conv_general_dilated":
        return Counter({scope: _convolution(eqn)})
    if kind == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        lhs = eqn.invars[0].aval.shape
        size = eqn.outvars[0].aval.size
        return Counter({scope: size * math.prod(lhs[i] for i in contracted)})
    inner = [_count(j, _wanted_of(j, eqn, wanted), scope) for j in _inside(eqn.params)]
    times = 1
    if kind == "cond":
        # Of implementations by platform the last is the default, XLA's own.
        platforms = eqn.params.get("branches_platforms")
        return inner[-1] if platforms else max(inner, key=Counter.total)
    if kind == "shard_map":
        # The parameter is called otherwise in other versions of JAX.
        (axes,) = (v for k, v in eqn.params.items() if k.endswith("manual_axes"))
        times = math.prod(eqn.params["mesh"].shape[axis] for axis in axes)
    if kind == "scan":
        times = eqn.params["length"]
    total = sum(inner, Counter())
    if kind == "while" and total:
        raise ValueError("a while loop of unknown length has multiply-adds")
    return Counter({scope: times * macs for scope, macs in total.items()})


def _wanted_of(
    jaxpr: core.Jaxpr, eqn: core.JaxprEqn, wanted: Sequence[bool] | None
) -> Sequence[bool] | None:
    """Which outputs of an inner function count."""
    if wanted is None:
        return None
    if len(jaxpr.outvars) != len(wanted):
        return [True] * len(jaxpr.outvars)
    # Every turn of a scan needs all that is carried.
    carried = eqn.params.get("num_carry", 0)
    return [True] * carried + list(wanted[carried:])


def _is_var(value: core.Var | core.Literal) -> bool:
    return not isinstance(value, core.Literal)


def _inside(params: dict) -> Iterator[core.Jaxpr]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _convolution(eqn: core.JaxprEqn) -> int:
    numbers, params = eqn.params["dimension_numbers"], eqn.params
    lhs, rhs = (v.aval.shape for v in eqn.invars[:2])
    out = eqn.outvars[0].aval.shape
    sides = zip(
        (out[i] for i in numbers.out_spec[2:]),
        (rhs[i] for i in numbers.rhs_spec[2:]),
        params["window_strides"],
        params["rhs_dilation"],
        params["lhs_dilation"],
        (low for low, _ in params["padding"]),
        strict=True,
    )
    # The kernel has C_in / groups channels already; the output has all features.
    channels, features = rhs[numbers.rhs_spec[1]], out[numbers.out_spec[1]]
    rows = out[numbers.out_spec[0]]
    return rows * features * channels * math.prod(_products(*side) for side in sides)


def _products(out: int, taps: int, stride: int, step: int, spread: int, low: int):
    """Pairs of an output and a tap that meet an input cell, not a zero in between.

    Padding counts as cells: that is how the published numbers are.
    """
    if spread == 1:
        return out * taps
    places = (o * stride + k * step - low for o in range(out) for k in range(taps))
    return sum(place % spread == 0 for place in places)
