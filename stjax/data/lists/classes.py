"""Names of classes, and labels as numbers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from stjax.data.lists.item import Item, Label, Listing, read_lines
from stjax.errors import UserError, unknown


def plain(name: str) -> str:
    """A class name as it is compared: "Moving [something] up" has no brackets."""
    return " ".join(name.replace("[", "").replace("]", "").split())


def read_classes(file: Path) -> tuple[str, ...]:
    """A name on every line; or, after a tab, also its number (from 0), in any order.

    Raises:
      UserError: if it cannot be read, names a class twice or leaves a number out.
    """
    rows = [line.split("\t") for _, line in read_lines(file)]
    names = [row[0].strip() for row in rows]
    if rows and all(len(row) == 2 and row[1].strip().isdigit() for row in rows):
        order = [int(row[1]) for row in rows]
        if sorted(order) != list(range(len(rows))):
            raise UserError(f"{file}: expected the numbers 0 to {len(rows) - 1}, once")
        names = [name for _, name in sorted(zip(order, names, strict=True))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        problem = f"{twice[0]!r} twice" if twice else "nothing"
        raise UserError(f"{file}: expected a class on every line, got {problem}")
    return tuple(names)


def number_labels(listing: Listing, order: Sequence[str]) -> Listing:
    """The list with its labels as indices of ``order``.

    Labels that are numbers are such indices already, but for lists that number the
    names they have themselves: these are found in ``order`` by their names.

    Raises:
      UserError: for a label that is not there.
    """
    index = {plain(name): k for k, name in enumerate(order)}
    own = listing.classes
    cache: dict[Label, int] = {}

    def number(label: Label) -> int:
        if label not in cache:
            name = label
            if own is not None and isinstance(label, int) and label < len(own):
                name = own[label]
            if isinstance(name, int) and 0 <= name < len(order):
                cache[label] = name
            elif isinstance(name, str) and plain(name) in index:
                cache[label] = index[plain(name)]
            elif isinstance(name, str):
                raise unknown(f"class in {listing.source}:", name, order)
            else:
                raise UserError(
                    f"{listing.source}: a label is {label}, but there are {len(order)}"
                    f" classes (0 to {len(order) - 1}); correct data.labels or"
                    " data.num_classes"
                )
        return cache[label]

    def convert(item: Item) -> Item:
        if len(item.labels) != 1 and not listing.multi_label:
            raise UserError(
                f"{listing.source}: {item.path} has {len(item.labels)} classes,"
                " expected one; set data.multi_label=True"
            )
        return dataclasses.replace(
            item,
            labels=tuple(sorted({number(x) for x in item.labels})),
            spans=tuple((a, b, number(x)) for a, b, x in item.spans),
        )

    items = [convert(item) for item in listing.items]
    return dataclasses.replace(listing, items=items, classes=tuple(order))
