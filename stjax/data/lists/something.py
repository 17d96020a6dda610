"""Something-Something, versions 1 and 2: official lists and those of UniFormer."""

import csv
import dataclasses
import json
from pathlib import Path

from stjax.data.lists.frame_list import is_frame_list, read_videos
from stjax.data.lists.item import Item, Listing, Request, read_lines, usual, wrong_line
from stjax.data.lists.tables import read_frame_folders
from stjax.errors import UserError

_V1, _V2 = "something-something-v1", "something-something-v2"


def something_v1(request: Request) -> Listing:
    """Official: ``id;label``, with the file of labels; UniFormer: ``id n label``.

    Frames are 20bn-something-something-v1/ID/00001.jpg. The official test set has no
    labels: published numbers are of the validation set, and so is the split "test".
    """
    names = [f"{_V1}-{{}}.csv", "somesomev1_rgb_{}_split.txt"]
    file = request.find(*_public(request.split, names))
    folder, pattern = request.folder(f"20bn-{_V1}"), "{:05d}.jpg"
    if ";" not in _head(file):
        return read_frame_folders(file, folder, pattern)
    labels = _beside(file, f"{_V1}-labels.csv", "labels.csv")
    classes = tuple(line.strip() for _, line in read_lines(labels))
    items = []
    for number, line in read_lines(file):
        fields = next(csv.reader([line], delimiter=";"))
        if len(fields) != 2:
            raise wrong_line(file, number, line, "an id and its label")
        items.append(Item(fields[0], (fields[1],), pattern=pattern))
    return Listing(items, classes, folder=folder, source=str(file))


def something_v2(request: Request) -> Listing:
    """Official: json of {id, template}, with the file of labels; UniFormer's lists.

    Videos are 20bn-something-something-v2/ID.webm, or folders of frames of that name.
    Where PySlowFast's frame lists (train.csv, val.csv) lie beside the json, frames are
    theirs. "test" is the validation set: the official one has no labels.
    """
    names = [f"{_V2}-{{}}.json", "labels/{}.json", "somesomev2_rgb_{}_split.txt"]
    file = request.find(*_public(request.split, names))
    folder = request.folder(f"20bn-{_V2}")
    if file.suffix.lower() != ".json":
        return read_frame_folders(file, folder, "img_{:05d}.jpg")
    table = _json(_beside(file, f"{_V2}-labels.json", "labels.json"), dict)
    order = sorted(table, key=lambda name: int(table[name]))
    if [int(table[name]) for name in order] != list(range(len(order))):
        raise UserError(f"the labels beside {file} are not numbered 0, 1, 2, ...")
    items = []
    for entry in _json(file, list):
        if not isinstance(entry, dict) or not {"id", "template"} <= entry.keys():
            raise UserError(
                f"{file}: expected entries with id and template, got {str(entry)[:80]};"
                " a list without labels cannot be used"
            )
        items.append(Item(str(entry["id"]), (entry["template"],)))
    # PySlowFast's prefix is where its frames are, and "" stands for data.path.
    frames = _frame_list(file.parent, request.split)
    if frames is not None:
        items = _with_frames(items, frames)
    return Listing(items, tuple(order), folder=folder, source=str(file))


def _public(split: str, names: list[str]) -> list[str]:
    return usual("train" if split == "train" else "validation", names)


def _head(file: Path) -> str:
    lines = read_lines(file)
    return lines[0][1] if lines else ""


def _beside(file: Path, *names: str) -> Path:
    for name in names:
        if (file.parent / name).is_file():
            return file.parent / name
    raise UserError(
        f"{file.parent}: expected {' or '.join(names)} beside {file.name}, with the"
        " names of the classes"
    )


def _json(file: Path, kind: type) -> dict | list:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the list {file}: {error}") from error
    if not isinstance(content, kind):
        raise UserError(f"{file}: expected a json {kind.__name__}; is it another list?")
    return content


def _frame_list(folder: Path, split: str) -> Path | None:
    file = folder / ("train.csv" if split == "train" else "val.csv")
    return file if is_frame_list(file) else None


def _with_frames(items: list[Item], file: Path) -> list[Item]:
    """The videos that the frame list has, with its frames and their own labels."""
    frames = dict(read_videos(file))
    found = [
        dataclasses.replace(frames[item.path], labels=item.labels, spans=())
        for item in items
        if item.path in frames
    ]
    if not found:
        raise UserError(f"{file} has the frames of none of the videos")
    return found
