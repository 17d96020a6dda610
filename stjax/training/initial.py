"""Starting from weights that are there already (``train.init_from``)."""

from collections.abc import Callable, Sequence

import flax
import jax
import numpy as np
from absl import logging
from etils import epath
from flax import linen as nn

from stjax.convert.labels import label_key, remap_head
from stjax.errors import UserError
from stjax.param_groups import GATES
from stjax.search.template import Template
from stjax.stacked import stack, unstack
from stjax.training.checkpoint import differences
from stjax.training.workdir import load_run

_FILES = (".safetensors", ".pth", ".pyth", ".pt", ".ckpt", ".pkl")

Path = tuple[str, ...]  # ("params", "head", "kernel")
Flat = dict[Path, jax.Array | np.ndarray]


def initial_variables(
    path: str,
    model: nn.Module,
    abstract: dict,
    *,
    fresh: Callable[[], dict] | None = None,
    classes: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> dict:
    """Variables for a model from a workdir or from a file of the PyTorch original.

    Everything has to fit, but for what a fine-tuned model has of its own:

    * the head of a recogniser (modules in its ``head_names``, by default ``head``)
      stays fresh where it is missing or has other classes; where all classes are
      among those that the weights know by name, their outputs are taken;
    * non-local blocks that are missing stay fresh: they are the identity at birth;
    * the gates of a template (`stjax.search.template`) stay fresh where there are none;
    * around a ``backbone`` (`stjax.models.probe`) everything stays fresh where the
      weights are those of the backbone alone.

    A line in the log tells what is fresh.

    Args:
      path: a workdir of `stjax.train` (its best checkpoint), or a .safetensors, .pth,
        .pyth, .pt, .ckpt or .pkl file that `stjax.convert` knows, images' weights for
        a video network included.
      model: the model to be trained.
      abstract: shapes of its variables.
      fresh: makes its variables anew, called where some are needed; None: everything
        has to be there.
      classes: their names, in the order of the model's outputs.
      labels: class names of the weights, in the order of their outputs, where only
        the caller knows them: a file has none, and with as many classes as the model
        has it is taken to have the same ones.

    Raises:
      UserError: nothing there, or it does not fit the model.
    """
    if not epath.Path(path).exists():
        raise UserError(f"train.init_from={path!r} does not exist; check the path")
    model = model.model if isinstance(model, Template) else model
    read = _of_file if path.lower().endswith(_FILES) else _of_workdir
    variables, known = read(path, model)
    want, have = _flatten(unstack(abstract)), _flatten(unstack(variables))
    have, own = _placed(have, want, model)
    if labels:
        _check_labels(labels, {p: v for p, v in have.items() if own(p)}, path)
    have = _with_classes(have, own, labels or known, classes)
    if any(p not in want or have[p].shape != want[p].shape for p in have if own(p)):
        have = {p: v for p, v in have.items() if not own(p)}
    new = _missing(have, want, own) if fresh else set()
    _check_fit(_shapes(have), _shapes(want, without=new), path)
    if new:
        made = _flatten(unstack(fresh()))
        have |= {p: made[p] for p in new}
        logging.info("train.init_from=%s; fresh: %s", path, _told(new))
    found = {p: have[p].astype(leaf.dtype) for p, leaf in want.items()}
    return stack(flax.traverse_util.unflatten_dict(found), abstract)


def _check_fit(have: dict[str, tuple], want: dict[str, tuple], path: str) -> None:
    found = differences(have, want)
    if found:
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        raise UserError(
            f"train.init_from={path!r} does not fit the model:"
            f" {'; '.join(found[:3])}{more}"
        )


def _check_labels(labels: Sequence[str], head: Flat, path: str) -> None:
    outputs = {v.shape[-1] for v in head.values() if v.ndim}
    if outputs and len(labels) not in outputs:
        raise UserError(
            f"{len(labels)} labels are given for train.init_from={path!r}, whose head"
            f" has {min(outputs)} classes; give the list it was trained with"
        )


def _of_workdir(path: str, model: nn.Module) -> tuple[dict, Sequence[str] | None]:
    del model
    run = load_run(path)
    return jax.device_get(run.variables), getattr(run.spec, "classes", None)


def _of_file(path: str, model: nn.Module) -> tuple[dict, None]:
    from stjax import convert
    from stjax.convert.family import family_of
    from stjax.convert.inflate import inflate

    inner = getattr(model, "backbone", model)
    state = convert.read_file(path)
    if family_of(inner).head:  # a recogniser
        count = convert.class_count(inner, state)
        inner = inner.clone(num_classes=count) if count else inner
        return inflate(inner, state, partial=True), None
    return convert.from_torch(inner, state), None


def _placed(
    have: Flat, want: Flat, model: nn.Module
) -> tuple[Flat, Callable[[Path], bool]]:
    """The weights at their place in the model, and what may be the model's own."""

    def top(flat):
        return {path[1] for path in flat}

    if "backbone" in top(want) - top(have):
        head = _head(model.backbone)
        inside = {(p[0], "backbone", *p[1:]): v for p, v in have.items()}
        have = {p: v for p, v in inside.items() if p[2] not in head}
        return have, lambda path: path[1] != "backbone"
    head = _head(model)
    return have, lambda path: path[1] in head


def _head(model: nn.Module) -> Sequence[str]:
    """Top-level modules that depend on the classes."""
    names = getattr(model, "head_names", ("head",))
    return names if hasattr(model, "num_classes") else ()


def _with_classes(
    have: Flat,
    own: Callable[[Path], bool],
    known: Sequence[str] | None,
    classes: Sequence[str] | None,
) -> Flat:
    """The head's outputs for `classes`, or no head, where the names are others."""
    if not _named(known) or not _named(classes) or tuple(known) == tuple(classes):
        return have
    kernels = [p for p in have if own(p) and p[0] == "params" and p[-1] == "kernel"]
    last = [p for p in kernels if have[p].shape[-1] == len(known)]
    if {label_key(c) for c in classes} <= {label_key(k) for k in known} and last:
        layer = "/".join(last[-1][1:-1])
        variables = flax.traverse_util.unflatten_dict(have)
        return _flatten(remap_head(variables, known, classes, layer))
    return {p: v for p, v in have.items() if not own(p)}


def _named(classes: Sequence[str] | None) -> bool:
    """Whether classes have names; a list of plain numbers says nothing."""
    return bool(classes) and not all(c.isdecimal() for c in classes)


def _missing(have: Flat, want: Flat, own: Callable[[Path], bool]) -> set[Path]:
    """What may stay fresh of what is missing: the model's own, whole new blocks."""
    blocks = {_non_local(path) for path in have}
    return {
        path
        for path in want
        if path not in have and (own(path) or _non_local(path) not in blocks | {None})
    }


def _non_local(path: Path) -> Path | None:
    """The non-local block that a variable is part of; gates count as one."""
    if path[1] == GATES:
        return path[1:2]
    for i, name in enumerate(path[1:], 1):
        if "nonlocal" in name:
            return path[1 : i + 1]
    return None


def _told(paths: set[Path]) -> str:
    """'head/projection (2), s3/pathway0_nonlocal1 (11)': modules and their arrays."""
    count = {}
    for path in sorted(paths):
        module = "/".join(_non_local(path) or path[1:-1] or path[-1:])
        count[module] = count.get(module, 0) + 1
    return ", ".join(f"{module} ({n})" for module, n in sorted(count.items()))


def _flatten(tree: dict) -> Flat:
    return flax.traverse_util.flatten_dict(tree)


def _shapes(flat: Flat, without: set[Path] = frozenset()) -> dict[str, tuple]:
    return {"/".join(p): tuple(v.shape) for p, v in flat.items() if p not in without}
