"""Lists of labelled videos: one format a module, and the table of formats.

``read_list("kinetics", ...)`` gives the videos of a split with their classes as
numbers. To add a format, write a function from `Request` to `Listing` and add a line to
`FORMATS`. The page docs/video_lists.md shows a line of each.
"""

import dataclasses
from pathlib import Path

from stjax.data.lists.charades import charades
from stjax.data.lists.classes import number_labels, read_classes
from stjax.data.lists.files import locate
from stjax.data.lists.folders import folders
from stjax.data.lists.folds import hmdb51, ucf101
from stjax.data.lists.frame_list import frame_list
from stjax.data.lists.item import Item, Listing, Request
from stjax.data.lists.something import something_v1, something_v2
from stjax.data.lists.tables import frame_folders, kinetics
from stjax.data.reading import Skips
from stjax.data.windows import SPLITS
from stjax.errors import UserError, unknown

FORMATS = {
    "charades": charades,
    "folders": folders,
    "frame_folders": frame_folders,
    "frame_list": frame_list,
    "hmdb51": hmdb51,
    "kinetics": kinetics,
    "something_v1": something_v1,
    "something_v2": something_v2,
    "ucf101": ucf101,
}

__all__ = ["FORMATS", "Item", "Listing", "Request", "read_list"]


def read_list(
    format: str,
    request: Request,
    *,
    labels: str | None = None,
    num_classes: int | None = None,
    multi_label: bool | None = None,
    skips: Skips,
) -> tuple[Listing, Path]:
    """The videos of a split that are there, with their classes as numbers.

    Args:
      format: one of `FORMATS`.
      request: where and what to read.
      labels: a file with the names of the classes in the order of their numbers.
      num_classes: how many there are, where nothing else tells.
      multi_label: whether a video has any number of classes; None: as the format says.
      skips: where missing videos go, if they may be missing.

    Returns:
      The list (``classes`` are there), and the folder of its videos.

    Raises:
      UserError: for a missing or broken list, a class that is not known, and, unless
        they are skipped, missing videos.
    """
    if format not in FORMATS:
        raise unknown("value of data.format", format, FORMATS)
    listing = FORMATS[format](request)
    if not listing.items:
        raise UserError(f"the list {listing.source} has no videos")
    if multi_label is not None:
        listing = dataclasses.replace(listing, multi_label=multi_label)
    order = listing.classes
    if labels is not None:
        order = read_classes(request.root / Path(labels).expanduser())
    elif order is None and num_classes is None:
        listings = [listing, *_other_splits(format, request)]
        used = [x for a in listings for i in a.items for x in i.labels]
        if all(isinstance(x, int) for x in used):
            order = tuple(map(str, range(max(used, default=0) + 1)))
        else:
            order = tuple(sorted({x for x in used if isinstance(x, str)}))
    elif order is None:
        order = tuple(map(str, range(num_classes)))
    if num_classes is not None and num_classes != len(order):
        raise UserError(
            f"data.num_classes={num_classes}, but {labels or listing.source} has"
            f" {len(order)} classes; leave one of the two out"
        )
    listing = number_labels(listing, order)
    root = request.root / Path(listing.folder).expanduser()
    return locate(listing, root, skips), root


def _other_splits(format: str, request: Request) -> list[Listing]:
    """The lists of the other splits that are there: classes are those of all."""
    found = []
    for split in SPLITS:
        if split != request.split:
            other = dataclasses.replace(request, split=split)
            try:
                found.append(FORMATS[format](other))
            except UserError:  # said when that split is opened
                continue
    return found
