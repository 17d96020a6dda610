"""Lists of class names, and a classifier whose classes are put in another order.

The order of the classes is private to every project: that of UniFormer's Kinetics is
not alphabetical, so its weights score 0 with the usual labels. Names match whatever
their case, quotes, brackets, hyphens, underscores and spaces.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from stjax.errors import UserError

_INDEX_FIRST = re.compile(r"(?P<index>\d+)\s*[,\t ]\s*(?P<name>.+)")
_INDEX_LAST = re.compile(r"(?P<name>.+?)\s*[,\t ]\s*(?P<index>\d+)")
_TITLES = re.compile(r"\b(id|index|name|label|class)", re.IGNORECASE)
_QUOTES = "\"' "


def read_labels(path: str | Path) -> list[str]:
    """The class names of a file, by index.

    Args:
      path: a ``.json`` with ``{name: index}``, ``{index: name}`` or a list; otherwise
        text with a name a line, or an index before or after it, separated by a comma,
        a tab or spaces (``0 riding a bike``, ``riding a bike,0``); a first line of
        column titles is skipped. Indices may begin at 0 or 1.

    Raises:
      UserError: no such file, no names in it, or indices with gaps or repetitions.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such list of labels: {path}")
    text = path.read_text(encoding="utf-8-sig")
    try:
        pairs = _from_json(text) if path.suffix == ".json" else _from_text(text)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a list of labels: {error}") from None
    if not pairs:
        raise UserError(f"{path} holds no labels; write a name a line")
    indices = sorted(i for i, _ in pairs)
    first = indices[0]
    if first not in (0, 1) or indices != list(range(first, first + len(pairs))):
        raise UserError(
            f"the indices in {path} are not 0 to {len(pairs) - 1}, each once "
            f"(lowest {first}, highest {indices[-1]}, {len(pairs)} names)"
        )
    return [name for _, name in sorted(pairs)]


def label_key(name: str) -> str:
    """What two spellings of a class name have in common."""
    words = re.sub(r"[\s_\-]+", " ", name.strip().casefold())
    return re.sub(r"[\"'`’\[\]]", "", words).strip()


def label_order(have: Sequence[str], want: Sequence[str]) -> list[int]:
    """For each wanted class its index among those that are there.

    Raises:
      UserError: names that are missing, or that two classes share.
    """
    index = {}
    for i, name in enumerate(have):
        if index.setdefault(label_key(name), i) != i:
            raise UserError(f"two classes of the model are called {name!r}")
    missing = [name for name in want if label_key(name) not in index]
    if missing:
        some = ", ".join(map(repr, missing[:5]))
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"the model has no class {some}{more} ({len(missing)} of {len(want)} "
            "wanted); check the two label lists"
        )
    order = [index[label_key(name)] for name in want]
    for name in want:
        if order.count(index[label_key(name)]) > 1:
            raise UserError(f"the wanted labels name {name!r} twice")
    return order


def remap_head(
    variables: dict,
    model_labels: Sequence[str],
    wanted_labels: Sequence[str],
    head: str = "head",
) -> dict:
    """Puts the classes of a classifier in another order, by name.

    Args:
      variables: of a recogniser with a class for each of `model_labels`.
      model_labels: class names in the order of the model's outputs.
      wanted_labels: class names in the order they shall have; classes that are not
        among them are left out.
      head: path of the last layer in 'params', such as ``"head/projection"``.

    Returns:
      The variables, the last layer's ``kernel`` [..., K] and ``bias`` [K] with
      ``len(wanted_labels)`` classes.

    Raises:
      UserError: wanted names that the model does not have, or lists that fit neither
        the model nor each other.
    """
    order = np.array(label_order(model_labels, wanted_labels))
    flat = flatten_dict(variables)
    paths = [("params", *head.split("/"), leaf) for leaf in ("kernel", "bias")]
    if paths[0] not in flat:
        raise UserError(f"the model has no layer {head!r} with a kernel")
    classes = flat[paths[0]].shape[-1]
    if classes != len(model_labels):
        raise UserError(
            f"the model has {classes} classes and its list {len(model_labels)} labels; "
            "give the list that it was trained with"
        )
    for path in paths:
        if path in flat:
            flat[path] = jnp.asarray(flat[path])[..., order]
    return unflatten_dict(flat)


def _from_json(text: str) -> list[tuple[int, str]]:
    tree = json.loads(text)
    if isinstance(tree, list):
        return [(i, str(name)) for i, name in enumerate(tree)]
    if not isinstance(tree, dict):
        raise ValueError("expected names and indices, or a list")
    if all(key.strip().isdigit() for key in tree):
        return [(int(key), str(name)) for key, name in tree.items()]
    return [(int(index), str(name)) for name, index in tree.items()]


def _from_text(text: str) -> list[tuple[int, str]]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    titled = lines[:1] and _TITLES.match(lines[0])
    for pattern in (_INDEX_FIRST, _INDEX_LAST):
        for rows in (lines, lines[1:] if titled else []):
            found = [pattern.fullmatch(line) for line in rows]
            if rows and all(found):
                return [(int(m["index"]), m["name"].strip(_QUOTES)) for m in found]
    return [(i, line.strip(_QUOTES)) for i, line in enumerate(lines)]
