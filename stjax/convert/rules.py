"""The rule that maps Flax variables to PyTorch state dicts and back."""

import re

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stjax.convert.family import Family, StateDict, family_of
from stjax.errors import UserError, unknown
from stjax.stacked import stack, unstack

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def input_shape(model: nn.Module, state_dict: StateDict) -> tuple[int, int, int, int]:
    """(T, H, W, C) of an input that the weights of `state_dict` fit."""
    family = family_of(model)
    return family.input_shape(model, family.adapt(clean(state_dict)))


def class_count(model: nn.Module, state_dict: StateDict) -> int | None:
    """Classes of a checkpoint's classifier; None without one."""
    family = family_of(model)
    head = family.adapt(clean(state_dict)).get(family.head)
    return None if head is None else int(head.shape[0])


def from_torch(model: nn.Module, state_dict: StateDict) -> dict:
    """Variables of a model from the original project's state dict.

    Args:
      model: as made by `stjax.create_model`, with the fields of the checkpoint.
      state_dict: the original's own key names to arrays. The wrappers of DDP
        (``module.``) and Lightning (``model.``) are recognised.

    Returns:
      Flax variables: 'params' and, if there are any, 'batch_stats', float32.

    Raises:
      UserError: unless every key is used exactly once and has the expected shape;
        the message lists what is missing, left over or of the wrong shape. Another
        number of classes has a message of its own.
    """
    family = family_of(model)
    state = family.adapt(clean(state_dict))
    clip = jnp.zeros((1, *family.input_shape(model, state)))
    _check_classes(model, state, family)
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), clip))
    abstract = unstack(like)
    left = {k for k in state if not re.search(family.ignored, k)}
    missing, wrong, flat = [], [], {}
    for path, leaf in flatten(abstract).items():
        key = torch_key(path, family)
        if key not in state:
            missing.append(key)
            continue
        left -= {key, *_aliases(key, family)}
        value = to_flax(np.asarray(state[key]), path, key, leaf.ndim, family)
        if leaf.ndim == 5 > value.ndim:
            raise UserError(
                "these are weights for images; start from them with train.init_from,"
                " or stjax.convert.inflate.inflate(model, state_dict)"
            )
        if value.shape != leaf.shape:
            wrong.append(f"{key} {tuple(state[key].shape)} for {leaf.shape}")
        flat[path] = jnp.asarray(value, leaf.dtype)
    check_fit(model, missing, left, wrong)
    return stack(flax.traverse_util.unflatten_dict(flat), like)


def to_torch(
    model: nn.Module, variables: dict, project: str | None = None
) -> StateDict:
    """The inverse of `from_torch`: the original's keys and layouts, numpy arrays.

    Args:
      model: that the variables are of.
      variables: Flax variables.
      project: another project that has the model and whose keys are wanted, such as
        "mmaction2"; None for the original one.

    Raises:
      UserError: that project is not known to have the model.
    """
    family = family_of(model)
    if project is not None and project not in family.projects:
        raise unknown("project to convert to", project, family.projects)
    kept = {k: v for k, v in variables.items() if k in ("params", "batch_stats")}
    state = {}
    for path, leaf in flatten(unstack(flax.core.unfreeze(kept))).items():
        key = torch_key(path, family)
        value = _to_torch(np.asarray(leaf), path, key, family)
        for name in (key, *_aliases(key, family)):
            state[name] = value
        if path[-1] == "var":
            counter = key.removesuffix("running_var") + "num_batches_tracked"
            state[counter] = np.zeros((), np.int64)
    return family.projects[project](state) if project else state


def clean(state_dict: StateDict) -> StateDict:
    """Without the prefix that a wrapper put before every key."""
    for prefix in ("module.", "model.", "_orig_mod."):
        if state_dict and all(k.startswith(prefix) for k in state_dict):
            return clean({k[len(prefix) :]: v for k, v in state_dict.items()})
    return dict(state_dict)


def torch_key(path: tuple[str, ...], family: Family) -> str:
    """The original's key of a variable: its path without the collection."""
    *modules, leaf = path[1:]
    parts = [
        name if name in family.native else re.sub(r"_(\d+)$", r".\1", name)
        for name in modules
    ]
    if leaf in family.native or leaf not in _LEAVES:
        return ".".join([*parts, leaf])
    return ".".join([*parts, _LEAVES[leaf]])


def _check_classes(model, state, family):
    if family.head in state:
        got = state[family.head].shape[0]
        if got != model.num_classes:
            raise UserError(
                f"the checkpoint has {got} classes, the model has {model.num_classes}; "
                f"set model.num_classes={got}, or start training from it with "
                "train.init_from, which replaces the head"
            )


def check_fit(
    model: nn.Module, missing: list[str], left: set[str], wrong: list[str]
) -> None:
    """Raises UserError if there are keys missing, left over or of the wrong shape."""
    problems = {"missing": missing, "left over": sorted(left), "wrong shape": wrong}
    told = [f"{what}: {_some(names)}" for what, names in problems.items() if names]
    if told:
        raise UserError(
            f"the checkpoint does not fit {type(model).__name__}; {'; '.join(told)}"
        )


def flatten(tree: dict) -> dict[tuple[str, ...], object]:
    """Paths to leaves."""
    return flax.traverse_util.flatten_dict(flax.core.unfreeze(tree))


def _aliases(key: str, family: Family) -> list[str]:
    renamed = [re.sub(old, new, key) for old, new in family.aliases]
    return [name for name in renamed if name != key]


def to_flax(
    value: np.ndarray, path: tuple[str, ...], key: str, ndim: int, family: Family
) -> np.ndarray:
    """A value in the layout of the variable at `path`, which has `ndim` axes."""
    if path[-1] != "kernel" or value.ndim < 2:
        return value
    if re.search(family.transposed, key):  # (in, out, *window)
        value = np.moveaxis(value, (0, 1), (-2, -1))
    else:  # (out, in, *window)
        value = np.moveaxis(value, (0, 1), (-1, -2))
    # A 1x1 convolution stored as a linear layer, or the other way round.
    while value.ndim > ndim and value.shape[0] == 1:
        value = value[0]
    return value


def _to_torch(value, path, key, family):
    if path[-1] != "kernel" or value.ndim < 2:
        return value
    if re.search(family.transposed, key):
        return np.moveaxis(value, (-2, -1), (0, 1))
    return np.moveaxis(value, (-1, -2), (0, 1))


def _some(names: list[str], n: int = 5) -> str:
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more
