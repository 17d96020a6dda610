"""UCF101 and HMDB51: three official splits into training and test."""

import re
from pathlib import Path

from stjax.data.lists.item import Item, Listing, Request, read_lines, usual, wrong_line
from stjax.data.lists.tables import kinetics, read_frame_folders
from stjax.errors import UserError

_UCF_LISTS = ("", "ucfTrainTestlist/")
_HMDB_LISTS = ("testTrainMulti_7030_splits", "test_train_splits", "")
_FLAGS = {"0": None, "1": "train", "2": "test"}


def ucf101(request: Request) -> Listing:
    """``trainlist01.txt``: Class/v_Class_g01_c01.avi 1; the test's without numbers.

    With ``classInd.txt`` (1 ApplyEyeMakeup) for the order of the classes. There is no
    validation set: it is the test set. UniFormer's lists have another name and numbers
    from 0: name them in `data.train_list`, or use ``format="kinetics"``.
    """
    part = "train" if request.split == "train" else "test"
    names = [f"{folder}{part}list{request.fold:02d}.txt" for folder in _UCF_LISTS]
    file = request.find(*names)
    folder = request.folder("UCF-101", "UCF101")
    if file.suffix == ".csv":
        return kinetics(request)
    index = file.parent / "classInd.txt"
    classes = _class_index(index) if index.exists() else None
    items = []
    for number, line in read_lines(file):
        path = line.rsplit(None, 1)[0] if line[-1].isdigit() else line.strip()
        name = path.split("/")[0]
        if "/" not in path or (classes and name not in classes):
            raise wrong_line(file, number, line, "Class/video.avi, of a known class")
        items.append(Item(path, (name,)))
    return Listing(items, classes, folder=folder, source=str(file))


def _class_index(file: Path) -> tuple[str, ...]:
    classes = {}
    for number, line in read_lines(file):
        fields = line.split()
        if len(fields) != 2 or not fields[0].isdigit():
            raise wrong_line(file, number, line, "a number and a class")
        classes[int(fields[0])] = fields[1]
    return tuple(classes[k] for k in sorted(classes))


def hmdb51(request: Request) -> Listing:
    """``CLASS_test_split1.txt``: video.avi and 1 (training), 2 (test) or 0 (neither).

    Videos are CLASS/video.avi. There is no validation set: it is the test set. Also
    UniFormer's ``split1/train.txt``: folder of frames (img_00001.jpg), their number,
    label.
    """
    official = _hmdb_folder(request)
    if official is not None:
        return _hmdb_official(request, official)
    folders = [f"split{request.fold}/{{}}.txt", "{}.txt"]
    try:
        file = request.find(*usual(request.split, folders))
    except UserError as error:
        raise UserError(
            f"{request.root}: expected CLASS_test_split{request.fold}.txt, here or in"
            f" {_HMDB_LISTS[0]}, or {folders[0].format('train')}; set data.path or"
            f" data.{request.split}_list"
        ) from error
    return read_frame_folders(file, request.folder(), "img_{:05d}.jpg")


def _hmdb_folder(request: Request) -> Path | None:
    if request.named is not None:
        return request.named if request.named.is_dir() else None
    folders = [request.root / name for name in _HMDB_LISTS]
    pattern = f"*_test_split{request.fold}.txt"
    return next((f for f in folders if f.is_dir() and any(f.glob(pattern))), None)


def _hmdb_official(request: Request, folder: Path) -> Listing:
    want = "train" if request.split == "train" else "test"
    files = sorted(folder.glob(f"*_test_split{request.fold}.txt"))
    if not files:
        raise UserError(f"{folder} has no CLASS_test_split{request.fold}.txt")
    items, classes = [], []
    for file in files:
        name = re.sub(r"_test_split\d\.txt$", "", file.name)
        classes.append(name)
        for number, line in read_lines(file):
            fields = line.rsplit(None, 1)
            if len(fields) != 2 or fields[1] not in _FLAGS:
                raise wrong_line(file, number, line, "a video and 0, 1 or 2")
            if _FLAGS[fields[1]] == want:
                items.append(Item(f"{name}/{fields[0]}", (name,)))
    videos = request.folder("hmdb51_org", "HMDB51", "videos")
    return Listing(items, tuple(classes), folder=videos, source=str(folder))
