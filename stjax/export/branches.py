"""A function as one platform runs it, without the branches for others."""

from collections.abc import Callable, Mapping

import jax
from jax.extend import core

Replace = Mapping[str, Callable]
Decide = Callable[[core.JaxprEqn], int | None]


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

    def decide(eqn):
        names = enumerate(eqn.params["branches_platforms"])
        return next(i for i, known in names if known is None or platform in known)

    return _decided(function, decide, shapes, replace or {})


def without_kernels(function: Callable, *shapes) -> Callable:
    """`function` with the default branch where another one is a Pallas kernel.

    JAX lowers every branch for every platform that is asked for, and a kernel for a
    TPU cannot be lowered for others.
    """

    def decide(eqn):
        names = eqn.params["branches_platforms"]
        kernels = [has_kernels(branch.jaxpr) for branch in eqn.params["branches"]]
        return names.index(None) if any(kernels) and None in names else None

    return _decided(function, decide, shapes, {})


def has_kernels(jaxpr) -> bool:
    """Whether there is a Pallas kernel in it, however deep."""
    return any(
        eqn.primitive.name == "pallas_call"
        or any(has_kernels(inner) for inner in core.jaxprs_in_params(eqn.params))
        for eqn in jaxpr.eqns
    )


def _decided(function, decide: Decide, shapes, replace: Replace) -> Callable:
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*shapes)

    def decided(*args):
        leaves = jax.tree.leaves(args)
        outputs = _run(closed.jaxpr, closed.consts, leaves, decide, replace)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return decided


def _run(jaxpr, consts, args, decide: Decide, replace: Replace) -> list:
    """Interprets a jaxpr; traced by whoever calls it."""
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= zip(jaxpr.invars, args, strict=True)
    late = {}  # platforms are only asked for where it is not decided

    def read(atom):
        if isinstance(atom, core.Literal):
            return atom.val
        if atom in late:
            return _bind(late[atom], [], decide, replace)[0]
        return values[atom]

    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "platform_index":
            late[eqn.outvars[0]] = eqn
            continue
        inner, skipped = _inside(eqn, decide)
        if inner is None:
            outputs = _bind(eqn, [read(a) for a in eqn.invars], decide, replace)
        else:
            inputs = [read(a) for a in eqn.invars[skipped:]]
            consts = getattr(inner, "consts", ())
            inner = getattr(inner, "jaxpr", inner)
            outputs = _run(inner, consts, inputs, decide, replace)
        values |= zip(eqn.outvars, outputs, strict=True)
    return [read(a) for a in jaxpr.outvars]


def _bind(eqn, inputs: list, decide: Decide, replace: Replace) -> list:
    """One operation; the body of a loop is decided too."""
    params = dict(eqn.params)
    if eqn.primitive.name in replace:
        return [replace[eqn.primitive.name](*inputs, **params)]
    for name, value in params.items():
        if isinstance(value, core.ClosedJaxpr):
            shapes = value.in_avals
            body = _decided(core.jaxpr_as_fun(value), decide, shapes, replace)
            params[name] = jax.make_jaxpr(body)(*shapes)
    bound = eqn.primitive.get_bind_params(params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outputs = eqn.primitive.bind(*functions, *inputs, **params)
    return outputs if eqn.primitive.multiple_results else [outputs]


def _inside(eqn, decide: Decide):
    """The jaxpr that stands for an equation, and how many inputs it does not take."""
    params = eqn.params
    if params.get("branches_platforms") is not None:
        index = decide(eqn)
        return (None, 0) if index is None else (params["branches"][index], 1)
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
