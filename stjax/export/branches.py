"""A function as one platform runs it, without the branches for others."""

from collections.abc import Callable

import jax
from jax.extend import core


def for_platform(function: Callable, platform: str) -> Callable:
    """`function` with every `jax.lax.platform_dependent` decided.

    What does not matter to a forward pass goes too: `jax.jit`, `jax.checkpoint` and
    functions with a gradient of their own become what they compute.

    Args:
      function: of arrays.
      platform: such as "cuda".
    """

    def decided(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        outputs = _run(closed.jaxpr, closed.consts, jax.tree.leaves(args), platform)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return decided


def _run(jaxpr, consts, args, platform: str) -> list:
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
            inputs = [read(a) for a in eqn.invars]
            subfuns, params = eqn.primitive.get_bind_params(eqn.params)
            outputs = eqn.primitive.bind(*subfuns, *inputs, **params)
            outputs = outputs if eqn.primitive.multiple_results else [outputs]
        else:
            inputs = [read(a) for a in eqn.invars[skipped:]]
            consts = getattr(inner, "consts", ())
            outputs = _run(getattr(inner, "jaxpr", inner), consts, inputs, platform)
        values |= zip(eqn.outvars, outputs, strict=True)
    return [read(a) for a in jaxpr.outvars]


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
