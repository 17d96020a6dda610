"""Charades: several actions in a video, each with its time."""

import csv
import io
import re
from pathlib import Path

from stjax.data.lists.frame_list import is_frame_list, read_videos
from stjax.data.lists.item import Item, Listing, Request, read_lines
from stjax.errors import UserError

_ACTION = re.compile(r"c(\d{3}) (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)")


def charades(request: Request) -> Listing:
    """PySlowFast's frame lists (train.csv, val.csv), or the official table.

    The official one, Charades_v1_train.csv, has columns ``id`` and ``actions``, such as
    ``c092 11.90 21.20;c147 0.00 12.60`` (seconds), and videos ID.mp4. A training clip
    has the classes of the frames that it spans; others, and frames whose rate is not
    known, have all of the video.
    """
    part, official = ("train", "train") if request.split == "train" else ("val", "test")
    names = [f"Charades_v1_{official}.csv"]
    if is_frame_list(request.root / f"{part}.csv"):
        names = [f"{part}.csv"]
    file = request.find(*names)
    if is_frame_list(file):
        folder = request.folder("Charades_v1_rgb")
        items = [item for _, item in read_videos(file)]
    else:
        folder = request.folder("Charades_v1_480", "Charades_v1", "Charades_v1_rgb")
        items = _official(file)
    listed = file.parent / "Charades_v1_classes.txt"
    classes = None
    if listed.exists():
        # c000 Holding some clothes
        lines = [line.split(None, 1) for _, line in read_lines(listed)]
        classes = tuple(line[1].strip() if line[1:] else line[0] for line in lines)
    return Listing(items, classes, True, folder, str(file))


def _official(file: Path) -> list[Item]:
    items = []
    text = "\n".join(line for _, line in read_lines(file))
    for row in csv.DictReader(io.StringIO(text)):
        if not row.get("id") or row.get("actions") is None:
            raise UserError(
                f"{file}: expected columns id and actions, got {list(row)[:12]}; is it"
                " Charades' table?"
            )
        actions = [a.strip() for a in row["actions"].split(";") if a.strip()]
        matches = [_ACTION.fullmatch(a) for a in actions]
        if None in matches:
            got = actions[matches.index(None)]
            raise UserError(
                f"{file}, video {row['id']}: expected an action such as"
                f" 'c092 11.90 21.20', got {got!r}"
            )
        spans = tuple((float(m[2]), float(m[3]), int(m[1])) for m in matches)
        labels = tuple(sorted({span[2] for span in spans}))
        items.append(Item(row["id"], labels, spans=spans, seconds=True))
    return items
