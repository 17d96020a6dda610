"""Lists with one video a line: Kinetics' ``path label``, frames' ``folder n label``."""

import csv
from pathlib import Path

from stjax.data.lists.item import Item, Listing, Request, read_lines, usual, wrong_line
from stjax.data.video import VIDEOS


def _fields(line: str, separator: str) -> list[str]:
    if separator == ",":
        return next(csv.reader([line], skipinitialspace=True))
    fields = line.strip().split(separator)
    if separator != " " or len(fields) < 3 or not fields[-1].isdigit():
        return fields
    # A path may have spaces: what is left of the numbers.
    *path, label = fields
    if path[-1].isdigit() and (len(path) == 2 or path[-2].lower().endswith(VIDEOS)):
        path = path[:-1]
    return [" ".join(path), label]


def kinetics(request: Request) -> Listing:
    """``train.csv``, ``val.csv``, ``test.csv``: path and label.

    Separated by a comma (UniFormer), a tab, or a space (PySlowFast); a third field
    between them is left out; a path without a label has label 0. With a comma or a tab
    the label may be a name.
    """
    file = request.find(*usual(request.split, ["{}.csv", "{}.txt"]))
    items, lines = [], read_lines(file)
    separator = next((s for s in "\t," if lines and s in lines[0][1]), " ")
    for number, line in lines:
        fields = [f.strip() for f in _fields(line, separator)]
        if number == 1 and fields[-1].lower() == "label":
            continue
        bare = len(fields) == 1 and Path(line).suffix.lower() in VIDEOS
        if not (bare or 2 <= len(fields) <= 3) or not all(fields):
            raise wrong_line(file, number, line, "a path and a label")
        label = 0 if bare else fields[-1]
        if separator == " " and not str(label).isdigit():
            raise wrong_line(file, number, line, "a path and the number of a class")
        items.append(Item(fields[0], (_label(str(label)),)))
    return Listing(items, folder=request.folder(), source=str(file))


def _label(text: str) -> int | str:
    """A number, or the name of a class."""
    return int(text) if text.lstrip("-").isdigit() else text


def frame_folders(request: Request) -> Listing:
    """``train.txt``, ``val.txt``: folder of frames, their number, label (UniFormer)."""
    file = request.find(*usual(request.split, ["{}.txt", "{}.csv"]))
    return read_frame_folders(file, request.folder(), None)


def read_frame_folders(file: Path, folder: str, pattern: str | None) -> Listing:
    """The videos of such a list; frames are numbered from 1."""
    items = []
    for number, line in read_lines(file):
        fields = line.rsplit(None, 2)
        if len(fields) != 3 or not (fields[1].isdigit() and fields[2].isdigit()):
            raise wrong_line(file, number, line, "a folder, its frames and a label")
        name, length, label = fields[0], int(fields[1]), int(fields[2])
        items.append(Item(name, (label,), length, pattern))
    return Listing(items, folder=folder, source=str(file))
