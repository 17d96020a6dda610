"""A folder for each class: the natural format of one's own videos."""

import hashlib
import os
from pathlib import Path

from stjax.data.lists.item import Item, Listing, Request
from stjax.data.reading import natural
from stjax.data.video import VIDEOS
from stjax.data.windows import SPLITS, borders
from stjax.errors import UserError

_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


def folders(request: Request) -> Listing:
    """``[split/]CLASS/video.mp4``, or ``[split/]CLASS/folder_of_frames/``.

    Classes are the names of the folders, sorted. Without folders of splits, or with
    train/ alone, every class is divided by `data.fractions`, in an order that hashes of
    the names give: the same on every machine. Where there is only one of validation and
    test, it is both.
    """
    root = request.root if request.prefix is None else request.root / request.prefix
    if not root.is_dir():
        raise UserError(f"{root}: expected a folder with a folder for each class")
    top = _subfolders(root)
    places = {s: n for s in SPLITS for n in _NAMES[s] if n in top}
    # "train" may be a class, but not beside "val".
    if len(places) < 2 and set(top) - set(places.values()) or not places:
        places = {"train": ""}
    found = [_subfolders(root / place) for place in places.values()]
    classes = sorted(set().union(*found), key=natural)
    if list(places) == ["train"]:
        parts = [_held(root, places["train"], name, request) for name in classes]
    else:
        other = {"test": "validation", "validation": "test", "train": "train"}
        place = places.get(request.split) or places.get(other[request.split])
        parts = [_videos(root, place, name) for name in classes] if place else []
    items = [item for part in parts for item in part]
    if not items:
        raise UserError(
            f"{root}: the split {request.split!r} has no videos; expected files such as"
            " CLASS/video.mp4 or train/CLASS/video.mp4"
        )
    return Listing(items, tuple(classes), folder=request.prefix or "", source=str(root))


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir() and e.name[0] not in "._"]
    return sorted(names, key=natural)


def _videos(root: Path, place: str, name: str) -> list[Item]:
    """The videos of a class, in natural order of their names."""
    folder = f"{place}/{name}" if place else name
    if not (root / folder).is_dir():
        return []
    with os.scandir(root / folder) as entries:
        names = [
            e.name
            for e in entries
            if e.name[0] not in "._"
            and (Path(e.name).suffix.lower() in VIDEOS or e.is_dir())
        ]
    return [Item(f"{folder}/{n}", (name,)) for n in sorted(names, key=natural)]


def _held(root: Path, place: str, name: str, request: Request) -> list[Item]:
    """The part of a class that the split has."""
    items = _videos(root, place, name)
    order = sorted(items, key=lambda i: hashlib.sha256(i.path.encode()).digest())
    begin, end = borders(len(items), request.fractions)[SPLITS.index(request.split)]
    chosen = {item.path for item in order[begin:end]}
    return [item for item in items if item.path in chosen]
