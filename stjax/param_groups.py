"""Groups of parameters: frozen ones, learning rates that fall with depth, and gates.

The first two go by names: the path of a parameter in ``params``, joined by slashes,
such as ``blocks3_4/mlp/fc1/kernel``, searched by regular expressions (`re.search`).
Blocks that run in one loop (`stjax.stacked`) go by the names that they have outside of
one.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from stjax.errors import UserError
from stjax.stacked import unstacked_names

if TYPE_CHECKING:
    from stjax.optim import Optimizer, OptimizerState

GATES = "gates"
"""The part of the parameters that is a template's own: logits of its gates."""

LAYER_ORDER = (
    r"(?:^|backbone/)(?:patch_embed1|s1)/",
    r"(?:^|backbone/)(?:patch_embed|blocks)(\d)(?:_(\d+))?/",
    r"(?:^|backbone/)s(\d)/",
)
"""From input to output: UniFormer's blocks one by one (the patch embedding of a stage
belongs to its first block), the stages of a ResNet; what is left is the head."""


def names(params: optax.Params) -> list[str]:
    """The path of each parameter, in the order of `jax.tree.leaves`."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return [jax.tree_util.keystr(p, simple=True, separator="/") for p in paths]


def trained(params: dict, freeze: Sequence[str] | None) -> dict:
    """The part of a tree of parameters (or gradients) that is trained.

    Args:
      params: nested dictionaries.
      freeze: regular expressions of the names that are left out.

    Raises:
      UserError: one matches nothing, or together they match everything, or some of
        the blocks that run in one loop.
    """
    if not freeze:
        return params
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    single = [name for path in flat for name in unstacked_names(path)]
    for pattern in freeze:
        if not any(_search(pattern, name, "optim.freeze") for name in single):
            raise UserError(
                f"optim.freeze: {pattern!r} matches no parameter;"
                f" there are {_near(pattern, single)}"
            )
    kept = {k: v for k, v in flat.items() if not _frozen(k, freeze)}
    if not kept:
        raise UserError(
            f"optim.freeze={tuple(freeze)} matches every parameter, so nothing would"
            f" be trained; there are {_near(freeze[0], single)}"
        )
    return flax.traverse_util.unflatten_dict(kept, sep="/")


def filled(updates: dict, params: dict) -> dict:
    """Updates of the trained part, with zeros for all other parameters."""
    flat = flax.traverse_util.flatten_dict(updates)
    return flax.traverse_util.unflatten_dict(
        {
            path: flat[path] if path in flat else jnp.zeros_like(leaf)
            for path, leaf in flax.traverse_util.flatten_dict(params).items()
        }
    )


def layer_indices(
    params: optax.Params, order: Sequence[str] | None = None
) -> dict[str, int]:
    """The layer of each parameter: 0 at the input, the head is the last one.

    Args:
      params: all parameters of a model.
      order: regular expressions from input to output. The numbers that the groups of
        an expression match order the layers inside it; a group without a match is 0.
        What no expression matches (head, last norm) is the last layer.
        `LAYER_ORDER` by default; a model brings its own as class attribute
        ``layer_order``.

    Raises:
      UserError: no expression matches any parameter.
    """
    order = LAYER_ORDER if order is None else order
    single = [name for path in names(params) for name in unstacked_names(path)]
    places = {name: _place(name, order) for name in single}
    layers = sorted({place for place in places.values() if place is not None})
    if not layers:
        raise UserError(
            "optim.layer_decay needs to know the order of the layers, and no parameter"
            f" is called {' or '.join(map(repr, order))}; give the model's class a"
            " layer_order, a tuple of regular expressions from input to output"
        )
    index = {place: i for i, place in enumerate(layers)}
    return {name: index.get(place, len(layers)) for name, place in places.items()}


def layer_scales(
    params: optax.Params, decay: float, order: Sequence[str] | None = None
) -> optax.Params:
    """Factors of the learning rate, ``decay ** (L - i)`` for layer i of 0 ... L.

    The head has 1. Source: BEiT's ``LayerDecayValueAssigner`` (timm's
    ``param_groups_layer_decay`` counts the same way, but puts the last norm into the
    last block).

    Args:
      params: all parameters of a model.
      decay: in (0, 1].
      order: see `layer_indices`.

    Returns:
      A float for each parameter; of a stack of blocks [blocks, 1, 1 ...].
    """
    indices = layer_indices(params, order)
    last = max(indices.values())

    def scale(path, leaf):
        of = [decay ** (last - indices[name]) for name in unstacked_names(path)]
        if len(of) == 1:
            return of[0]
        return np.reshape(np.float32(of), (-1,) + (1,) * (leaf.ndim - 1))

    leaves, treedef = jax.tree.flatten(params)
    scales = [scale(*pair) for pair in zip(names(params), leaves, strict=True)]
    return jax.tree.unflatten(treedef, scales)


def grouped(
    optimizer: "Optimizer",
    freeze: Sequence[str] | None = None,
    layer_decay: float | None = None,
    layer_order: Sequence[str] | None = None,
) -> "Optimizer":
    """An optimizer for a part of the parameters, with a learning rate for each layer.

    Args:
      optimizer: any; it sees, keeps moments of, and clips the trained part only.
      freeze: see `trained`.
      layer_decay: see `layer_scales`; None for one learning rate.
      layer_order: see `layer_indices`.

    Returns:
      An optimizer whose updates are zero for frozen parameters. It raises `UserError`
      in ``init`` and ``update`` where expressions do not suit the parameters.
    """
    if isinstance(freeze, str):
        freeze = (freeze,)
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise UserError(f"optim.layer_decay={layer_decay} must be above 0, at most 1")
    if not freeze and layer_decay is None:
        return optimizer

    def part(tree):
        return trained(tree, freeze)

    def init(params):
        return optimizer.init(part(params))

    def update(grads, state, params):
        updates, state = optimizer.update(part(grads), state, part(params))
        if layer_decay is not None:
            scales = part(layer_scales(params, layer_decay, layer_order))
            updates = jax.tree.map(lambda u, s: s * u, updates, scales)
        return (filled(updates, params) if freeze else updates), state

    return dataclasses.replace(optimizer, init=init, update=update, trained=part)


class GatedState(NamedTuple):
    """States of the optimizers of the model and of its gates."""

    model: "OptimizerState"
    gates: "OptimizerState"


def with_gates(optimizer: "Optimizer", of_gates: "Optimizer") -> "Optimizer":
    """An optimizer of a template: its gates (``params["gates"]``) have their own.

    Decay, clipping, frozen layers and the schedule of the first do not reach the
    gates, and their gradient is no part of the norm that is clipped; it is part of
    the one that is reported.
    """

    def split(tree):
        return {k: v for k, v in tree.items() if k != GATES}, tree[GATES]

    def init(params):
        model, gates = split(params)
        return GatedState(optimizer.init(model), of_gates.init(gates))

    def update(grads, state, params):
        (model, gates), (own, logits) = split(grads), split(params)
        updates, model = optimizer.update(model, state.model, own)
        change, gates = of_gates.update(gates, state.gates, logits)
        return {**updates, GATES: change}, GatedState(model, gates)

    def trained(tree):
        model, gates = split(tree)
        return {**optimizer.trained(model), GATES: gates}

    return dataclasses.replace(optimizer, init=init, update=update, trained=trained)


def _frozen(path: str, freeze: Sequence[str]) -> bool:
    single = unstacked_names(path)
    found = [any(re.search(p, name) for p in freeze) for name in single]
    if any(found) and not all(found):
        raise UserError(
            f"optim.freeze={tuple(freeze)} matches {single[found.index(True)]}, but not"
            f" {single[found.index(False)]}, and they are trained in one array; set"
            " model.scan=False"
        )
    return all(found)


def _place(name: str, order: Sequence[str]) -> tuple[int, ...] | None:
    for i, pattern in enumerate(order):
        if found := _search(pattern, name, "layer_order"):
            return (i, *(int(n or 0) for n in found.groups()))
    return None


def _search(pattern: str, name: str, field: str) -> re.Match | None:
    try:
        return re.search(pattern, name)
    except re.error as error:
        raise UserError(
            f"{field}: {pattern!r} is no regular expression ({error})"
        ) from None


def _near(pattern: str, known: Iterable[str]) -> str:
    """A few names of modules or parameters, those most like the pattern first."""
    plain = re.sub(r"[^\w/]", "", pattern).strip("/")
    split = [name.split("/") for name in known]
    parts = {"/".join(path[:n]) for path in split for n in range(1, len(path) + 1)}
    near = difflib.get_close_matches(plain, sorted(parts), n=3, cutoff=0.4)
    return ", ".join(near or sorted({path[0] for path in split})[:5]) + " ..."
