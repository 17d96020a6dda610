"""Equal blocks of a network whose variables lie in one array each: a stack.

A model with ``scan=True`` runs its equal blocks in one loop, over variables with a
leading axis of blocks. Their name says which blocks they are::

    enc_1to6/block/norm1/scale [6, C]         enc_1/block/norm1/scale [C] ... enc_6/...
    res1to4by2/of0/branch2/a/kernel [2, ...]  of res1 and res3; of1: of res2 and res4

so that either form follows from the other, and checkpoints, conversions and what goes
by names (frozen layers, learning rates of layers) are the same for both.
"""

import re
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

_NAME = re.compile(r"(.*\D)(\d+)to(\d+)(?:by(\d+))?")


def stack_name(stem: str, first: int, count: int, cycle: int = 1) -> str:
    """The name of `count` blocks ``stem + first`` ..., of `cycle` kinds in turn."""
    by = f"by{cycle}" if cycle > 1 else ""
    return f"{stem}{first}to{first + count - 1}{by}"


def members(name: str) -> list[str]:
    """The names of the blocks of a stack; of no stack: none."""
    match = _NAME.fullmatch(name)
    if not match:
        return []
    stem, first, last = match[1], int(match[2]), int(match[3])
    return [f"{stem}{i}" for i in range(first, last + 1)]


def unstacked_names(path: str) -> list[str]:
    """The paths ``a/b/c`` of the variables that one of a model holds, in order."""
    parts = path.split("/")
    for i, part in enumerate(parts):
        blocks, cycle = members(part), _cycle(part)
        if blocks:
            rest = parts[i + 1 :]
            if cycle > 1:
                blocks, rest = blocks[int(rest[0][2:]) :: cycle], rest[1:]
            return ["/".join([*parts[:i], block, *rest]) for block in blocks]
    return [path]


def unstack(tree: object) -> object:
    """The same with every block by itself.

    Args:
      tree: variables of a model, or a tree with such dictionaries inside (a whole
        training state). Leaves are arrays or `jax.ShapeDtypeStruct`.
    """
    return _in_dicts(_unstack, tree)


def stack(tree: object, like: dict) -> object:
    """The same with the stacks that `like` has, whatever stacks `tree` has.

    Args:
      tree: as for `unstack`.
      like: names in the wanted layout, such as the result of `jax.eval_shape` of a
        model's ``init``: of each of the outermost dictionaries in `tree`. Blocks that
        one lacks, or that do not fit together, stay by themselves.
    """
    return _in_dicts(lambda node: _stack(node, like), unstack(tree))


def _is_dict(node: object) -> bool:
    return isinstance(node, dict)


def _in_dicts(function: Callable[[dict], dict], tree: object) -> object:
    """`function` of each outermost dictionary."""
    return jax.tree.map(
        lambda node: function(node) if _is_dict(node) else node, tree, is_leaf=_is_dict
    )


def _cycle(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match[4] or 1) if match else 1


def _unstack(tree: dict) -> dict:
    found = {}
    for name, value in tree.items():
        cycle = _cycle(name)
        for i, block in enumerate(members(name)):
            part = value[f"of{i % cycle}"] if cycle > 1 else value
            found[block] = jax.tree.map(lambda a, i=i // cycle: _layer(a, i), part)
        if not members(name):
            found[name] = _unstack(value) if _is_dict(value) else value
    return found


def _stack(tree: dict, like: dict) -> dict:
    found = dict(tree)
    for name, wanted in like.items():
        blocks, cycle = members(name), _cycle(name)
        if not blocks:
            if _is_dict(wanted) and _is_dict(tree.get(name)):
                found[name] = _stack(tree[name], wanted)
        elif all(block in tree for block in blocks):
            parts = [found.pop(block) for block in blocks]
            turns = [parts[i::cycle] for i in range(cycle)]
            if all(_same(turn) for turn in turns):
                made = [jax.tree.map(_joined, *turn) for turn in turns]
                many = {f"of{i}": part for i, part in enumerate(made)}
                found[name] = many if cycle > 1 else made[0]
            else:
                found |= dict(zip(blocks, parts, strict=True))
    return found


def _same(trees: list) -> bool:
    """Whether they can lie in common arrays."""
    kinds = [jax.tree.map(lambda a: (a.shape, a.dtype), tree) for tree in trees]
    return all(kind == kinds[0] for kind in kinds)


def _layer(leaf, i: int):
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf[i]
    return _struct(leaf, leaf.shape[1:], lambda spec: spec[1:])


def _joined(*leaves):
    if isinstance(leaves[0], jax.ShapeDtypeStruct):
        shape = (len(leaves), *leaves[0].shape)
        return _struct(leaves[0], shape, lambda spec: (None, *spec))
    if isinstance(leaves[0], jax.Array):
        return jax.numpy.stack(leaves)
    return np.stack(leaves)


def _struct(leaf, shape, change):
    sharding = leaf.sharding
    if isinstance(sharding, NamedSharding):
        spec = PartitionSpec(*change(tuple(sharding.spec)))
        sharding = NamedSharding(sharding.mesh, spec)
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)
