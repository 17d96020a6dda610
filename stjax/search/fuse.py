"""Folding paths that are the same function class: a free gain of an exported network.

Where two convolutions without bias see one input and are added before anything else
happens, the 1x1x1 is the middle tap of the 3x1x1: ``S+ST`` of a residual block is an
``ST`` with other weights. So in ResNets and ResNeXts (`stjax.models.fusion_resnet`) a
difference between ST and S+ST is one of optimisation, not of what can be computed.
In DenseNets and MobileNets every path has a BN and a ReLU of its own, and nothing
folds. `Slot.folds` tells.
"""

from collections.abc import Sequence

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.layers.slots import Slot, strategy_of


def folded_unit(slot: Slot, unit: str) -> str:
    """The smallest unit of a slot with the functions of `unit`, often itself."""
    paths = slot.kept(unit)
    for path, into in slot.folds:
        if {path, into} <= set(paths):
            paths = tuple(p for p in paths if p != path)
    same = [name for name, kept in slot.units if set(kept) == set(paths)]
    return same[0] if same and paths != slot.kept(unit) else unit


def folded_strategy(slots: Sequence[Slot], strategy: str | Sequence[str]) -> tuple:
    """`folded_unit` in every slot: equal results mean the same function class."""
    strategy = strategy_of(slots, strategy)
    return tuple(folded_unit(s, u) for s, u in zip(slots, strategy, strict=True))


def fuse(model: nn.Module, variables: dict) -> tuple[nn.Module, dict]:
    """A network that computes the same with fewer paths.

    Args:
      model: a network with slots that fold and its strategy in `units`.
      variables: its variables; masks are not folded in.

    Returns:
      The network with `folded_strategy`, and its variables. It gives the same results
      but for rounding, which float32 keeps below 1e-5 of them.

    Raises:
      UserError: the network has no slots that fold.
    """
    slots = getattr(model, "slots", ())
    if not any(slot.folds for slot in slots):
        raise UserError(
            f"{type(model).__name__} cannot be fused: none of its slots adds two"
            " convolutions of one input (its paths have a BN each, or there are no"
            " slots); export it as it is"
        )
    before = strategy_of(slots, model.units)
    after = folded_strategy(slots, before)
    params = flax.core.unfreeze(variables["params"])
    flat = flax.traverse_util.flatten_dict(params)
    for slot, old, new in zip(slots, before, after, strict=True):
        gone = set(slot.kept(old)) - set(slot.kept(new))
        for path, into in slot.folds:
            if path in gone:
                kernel = flat.pop(_kernel(slot, path))
                flat[_kernel(slot, into)] = _added(kernel, flat[_kernel(slot, into)])
    params = flax.traverse_util.unflatten_dict(flat)
    return model.clone(units=after), {**variables, "params": params}


def _kernel(slot: Slot, path: str) -> tuple[str, ...]:
    (module,) = dict(slot.modules)[path]
    return (*slot.name.split("/"), module, "kernel")


def _added(small: jax.Array, large: jax.Array) -> jax.Array:
    """Kernels [*window, I, O]; the windows are odd and share their middle."""
    room = [(n - k) // 2 for n, k in zip(large.shape, small.shape, strict=True)]
    return large + jnp.pad(small, [(r, r) for r in room])
