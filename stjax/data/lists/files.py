"""Finds the videos of a list, without asking for each file."""

import dataclasses
import os
from pathlib import Path

from stjax.data.lists.item import Item, Listing
from stjax.data.reading import Skips
from stjax.data.video import VIDEOS
from stjax.errors import UserError


class _Folders:
    """Names in folders; each folder is read once."""

    def __init__(self, root: Path):
        self._root, self._names = root, {}

    def names(self, folder: str) -> dict[str, str]:
        """Name -> name, and name without the ending of a video -> name."""
        if folder not in self._names:
            try:
                with os.scandir(self._root / folder) as entries:
                    names = sorted(e.name for e in entries)
            except OSError:
                names = []
            stems = {
                n.rpartition(".")[0]: n for n in names if n.lower().endswith(VIDEOS)
            }
            self._names[folder] = {**stems, **{n: n for n in names}}
        return self._names[folder]

    def find(self, path: str) -> str | None:
        """The path as it is on the disk: maybe with another ending; None: missing."""
        folder, _, name = path.rstrip("/").rpartition("/")
        if path.startswith("/") and not folder:
            folder = "/"
        if not name:
            return path
        names = self.names(folder)
        found = names.get(name)
        if found is None and name.lower().endswith(VIDEOS):
            found = names.get(name.rpartition(".")[0])
        return found and os.path.join(folder, found)


def locate(listing: Listing, root: Path, skips: Skips) -> Listing:
    """The list with the videos that are there, under their true names.

    A list may name ``a.mp4`` where there is ``a.webm`` or a folder ``a`` of frames.

    Raises:
      UserError: for a missing folder and, unless they are skipped, missing videos.
    """
    if not root.is_dir():
        raise UserError(f"the folder of the videos {root} does not exist: data.prefix")
    folders = _Folders(root)
    items: list[Item] = []
    missing = []
    for item in listing.items:
        found = folders.find(item.path)
        if found is None:
            missing.append(item.path)
        elif found == item.path:
            items.append(item)
        else:
            items.append(dataclasses.replace(item, path=found))
    if missing and (not skips.allowed or not items):
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"{listing.source}: {len(missing)} of {len(listing.items)} videos are not"
            f" in {root}: {names}; set data.prefix to their folder, or leave them out"
            " with data.skip_unreadable=True"
        )
    skips.names += missing
    return dataclasses.replace(listing, items=items)
