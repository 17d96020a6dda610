"""A function as one platform runs it, without the branches for others."""

from collections.abc import Callable, Mapping

import jax
from jax.extend import core

Replace = Mapping[str, Callable]


def for_platform(
    function: Callable, platform: str, *shapes, replace: Replace | None = None
) -> Callable:
    """`function` with every `jax.lax.platform_dependent` decided.

    What does not matter to a forward pass goes too: `jax.jit`, `jax.checkpoint` and
    functions with a gradient of their own become what they compute.

    Args:
      function: of arrays; it is traced here and now.
      platform: such as "cuda".
      *shapes: of its arguments (`jax.ShapeDtypeStruct`).
      replace: name of an operation -> what computes it, of its inputs (by position)
        and parameters (by name).
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*shapes)

    def decided(*args):
        leaves = jax.tree.leaves(args)
        outputs = _run(closed.jaxpr, closed.consts, leaves, platform, replace or {})
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return decided


def _run(jaxpr, consts, args, platform: str, replace: Replace) -> list:
    """Interprets a jaxpr; traced by whoever calls it."""
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= zip(jaxpr.invars, args, strict=True)

    def read(atom):
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "platform_index":
            continue
        inner, skipped = _inside(eqn, platform)
        if inner is None:
            outputs = _bind(eqn, [read(a) for a in eqn.invars], platform, replace)
        else:
            inputs = [read(a) for a in eqn.invars[skipped:]]
            consts = getattr(inner, "consts", ())
            inner = getattr(inner, "jaxpr", inner)
            outputs = _run(inner, consts, inputs, platform, replace)
        values |= zip(eqn.outvars, outputs, strict=True)
    return [read(a) for a in jaxpr.outvars]


def _bind(eqn, inputs: list, platform: str, replace: Replace) -> list:
    """One operation; the body of a loop is decided too."""
    params = dict(eqn.params)
    if eqn.primitive.name in replace:
        return [replace[eqn.primitive.name](*inputs, **params)]
    for name, value in params.items():
        if isinstance(value, core.ClosedJaxpr):
            shapes = value.in_avals
            body = for_platform(
                core.jaxpr_as_fun(value), platform, *shapes, replace=replace
            )
            params[name] = jax.make_jaxpr(body)(*shapes)
    bound = eqn.primitive.get_bind_params(params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outputs = eqn.primitive.bind(*functions, *inputs, **params)
    return outputs if eqn.primitive.multiple_results else [outputs]


def _inside(eqn, platform: str):
    """The jaxpr that stands for an equation, and how many inputs it does not take."""
    params = eqn.params
    choices = params.get("branches_platforms")
    if eqn.primitive.name == "cond" and choices is not None:
        for branch, names in zip(params["branches"], choices, strict=True):
            if names is None or platform in names:
                return branch, 1
    for name in ("call_jaxpr", "fun_jaxpr", "jaxpr"):
        if eqn.primitive.name in _TRANSPARENT and name in params:
            return params[name], 0
    return None, 0


_TRANSPARENT = (
    "jit",
    "pjit",
    "closed_call",
    "checkpoint",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
)
