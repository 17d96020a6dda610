"""Checkpoints of a model that runs its blocks in one loop, or does not.

``model.scan`` may change between two parts of a run: what a checkpoint holds is brought
from its layout to the model's (`stjax.stacked`).
"""

import jax

from stjax.stacked import stack

Items = dict[str, dict]


def as_saved(items: Items, saved: dict) -> Items:
    """Abstract items with the stacks that a checkpoint has.

    Args:
      items: "model", of params and collections, and perhaps "train", whose parts have
        dictionaries like the params (the optimizer's moments).
      saved: the tree of the checkpoint's "model".
    """
    return {name: _stacked(name, item, saved) for name, item in items.items()}


def as_wanted(found: Items, items: Items) -> Items:
    """Items out of a checkpoint with the stacks and shardings of the abstract ones."""
    if jax.tree.structure(found) == jax.tree.structure(items):
        return found

    def convert(found: Items) -> Items:
        return {k: _stacked(k, item, items["model"]) for k, item in found.items()}

    shardings = jax.tree.map(lambda leaf: leaf.sharding, items)
    return jax.jit(convert, out_shardings=shardings)(found)


def _stacked(name: str, item: dict, model: dict) -> dict:
    likes = model if name == "model" else dict.fromkeys(item, model["params"])
    return {part: stack(value, likes.get(part, {})) for part, value in item.items()}
