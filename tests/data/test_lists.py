"""Lists of labelled videos: lines as the official projects publish them."""

import json
import os

import pytest

from stjax.data.lists import FORMATS, Request, read_list
from stjax.data.reading import Skips
from stjax.errors import UserError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read(format, root, split="train", *, files=None, skip=False, **fields):
    """(path, labels) of the videos, and the list."""
    names = ("prefix", "fold", "fractions")
    request = {k: fields.pop(k) for k in names if k in fields}
    request = Request(root, split, files or {}, **request)
    listing, _ = read_list(format, request, skips=Skips(skip), **fields)
    return [(item.path, item.labels) for item in listing.items], listing


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4 0\nb c/d.mp4 2\n",  # PySlowFast; a path may have spaces
        "a.mp4,0\nb c/d.mp4,2\n",  # UniFormer
        "a.mp4\t0\nb c/d.mp4\t2\n",
        "a.mp4 117 0\nb c/d.mp4 35 2\n",  # with a number that is not used
        "path,label\na.mp4,0\nb c/d.mp4,2\n\n",
    ],
)
def test_kinetics(tmp_path, text):
    touch(tmp_path, "a.mp4", "b c/d.mp4", "val.mp4")
    (tmp_path / "train.csv").write_text(text)
    (tmp_path / "val.csv").write_text("val.mp4 3\n")
    got, listing = read("kinetics", tmp_path)
    assert got == [("a.mp4", (0,)), ("b c/d.mp4", (2,))]
    # The classes are those of all lists.
    assert listing.classes == ("0", "1", "2", "3") and not listing.multi_label
    # No test list: that of validation.
    assert read("kinetics", tmp_path, "test")[0] == [("val.mp4", (3,))]
    assert read("kinetics", tmp_path, num_classes=400)[1].classes[-1] == "399"


def test_kinetics_names_and_bare_paths(tmp_path):
    touch(tmp_path, "x/a.mp4", "x/b.webm", "lists/own.csv")
    (tmp_path / "lists/own.csv").write_text("a.mp4,riding a bike\nb.mp4,marching\n")
    files = {"train": "lists/own.csv"}
    got, listing = read("kinetics", tmp_path, files=files, prefix="x")
    # b.mp4 is there as b.webm; names without an order are sorted.
    assert got == [("a.mp4", (1,)), ("b.webm", (0,))]
    assert listing.classes == ("marching", "riding a bike")
    # UniFormer's order of Kinetics: name, tab, number.
    (tmp_path / "classes.txt").write_text("marching\t1\nriding a bike\t0\n")
    got, listing = read(
        "kinetics", tmp_path, files=files, prefix="x", labels="classes.txt"
    )
    assert got == [("a.mp4", (0,)), ("b.webm", (1,))]
    (tmp_path / "bare.csv").write_text("x/a.mp4\n")
    got, _ = read("kinetics", tmp_path, files={"train": "bare.csv"})
    assert got == [("x/a.mp4", (0,))]


def something_v2(root):
    labels = {"Holding something next to something": "1", "Approaching something": "0"}
    (root / "something-something-v2-labels.json").write_text(json.dumps(labels))
    for name, ids in (("train", "78 79"), ("validation", "80")):
        entries = [
            {
                "id": k,
                "label": "x",
                "template": "Holding [something] next to [something]",
            }
            for k in ids.split()
        ]
        entries[-1]["template"] = "Approaching [something]"
        path = root / f"something-something-v2-{name}.json"
        path.write_text(json.dumps(entries))


def test_something_v2(tmp_path):
    something_v2(tmp_path)
    videos = "20bn-something-something-v2"
    touch(tmp_path, *(f"{videos}/{k}.webm" for k in (78, 79, 80)))
    got, listing = read("something_v2", tmp_path)
    assert got == [("78.webm", (1,)), ("79.webm", (0,))]
    names = ("Approaching something", "Holding something next to something")
    assert listing.classes == names
    # Published numbers of the test are those of validation.
    assert read("something_v2", tmp_path, "test")[0] == [("80.webm", (0,))]
    # A list of labels with brackets, in another order: found by name.
    text = "Holding [something] next to [something]\nApproaching [something]\n"
    (tmp_path / "category.txt").write_text(text)
    got, _ = read("something_v2", tmp_path, labels="category.txt")
    assert got == [("78.webm", (0,)), ("79.webm", (1,))]
    (tmp_path / "something-something-v2-train.json").write_text('[{"id": "7"}]')
    with pytest.raises(UserError, match="expected entries with id and template"):
        read("something_v2", tmp_path)


def frame_list(path, rows):
    head = "original_vido_id video_id frame_id path labels\n"
    lines = (f'{v} {i} {k} {p} "{x}"\n' for v, i, k, p, x in rows)
    path.write_text(head + "".join(lines))


def test_something_v2_as_pyslowfast_has_it(tmp_path):
    something_v2(tmp_path)
    touch(tmp_path, "79/79_000001.jpg")
    rows = [("79", 0, k, f"79/79_{k + 1:06d}.jpg", "") for k in range(12)]
    frame_list(tmp_path / "train.csv", rows)
    got, listing = read("something_v2", tmp_path)
    # Video 78 is not in the frame list: left out, as PySlowFast does.
    assert got == [("79", (0,))]
    item = listing.items[0]
    assert (item.length, item.pattern, item.first) == (12, "79_{:06d}.jpg", 1)


def test_something_lists_of_uniformer(tmp_path):
    (tmp_path / "85").mkdir()
    (tmp_path / "somesomev1_rgb_validation_split.txt").write_text("85 46 30\n")
    _, listing = read("something_v1", tmp_path, "validation", num_classes=174)
    item = listing.items[0]
    assert (item.path, item.labels, item.length) == ("85", (30,), 46)
    assert item.pattern.format(item.first) == "00001.jpg"
    (tmp_path / "somesomev2_rgb_train_split.txt").write_text("85 46 30\n")
    _, listing = read("something_v2", tmp_path, num_classes=174)
    assert listing.items[0].pattern.format(7) == "img_00007.jpg"
    with pytest.raises(UserError, match="label is 30, but there are 4 classes"):
        read("something_v2", tmp_path, num_classes=4)


def test_something_v1(tmp_path):
    (tmp_path / "something-something-v1-labels.csv").write_text("Holding\nMoving up\n")
    (tmp_path / "something-something-v1-train.csv").write_text(
        "12;Moving up\n3;Holding"
    )
    touch(tmp_path, *(f"20bn-something-something-v1/{k}/00001.jpg" for k in (3, 12)))
    got, listing = read("something_v1", tmp_path)
    assert got == [("12", (1,)), ("3", (0,))]
    assert listing.items[0].pattern == "{:05d}.jpg"


def test_frame_list(tmp_path):
    rows = [
        ("A", 0, k, f"A/A-{k + 1:06d}.jpg", x) for k, x in enumerate(["0", "0,2", "2"])
    ]
    rows += [("B", 1, k, f"B/{name}.png", "") for k, name in enumerate("xy")]
    frame_list(tmp_path / "train.csv", rows)
    touch(tmp_path, "A/A-000001.jpg", "B/x.png")
    got, listing = read("frame_list", tmp_path)
    assert got == [("A", (0, 2)), ("B", ())] and listing.multi_label
    a, b = listing.items
    assert a.spans == ((0, 2, 0), (1, 3, 2)) and a.pattern == "A-{:06d}.jpg"
    assert b.files == ("B/x.png", "B/y.png") and b.length == 2
    with pytest.raises(UserError, match="A has 2 classes, expected one"):
        read("frame_list", tmp_path, multi_label=False)
    (tmp_path / "train.csv").write_text("original_vido_id\nA 0 0 A/1.jpg\n")
    with pytest.raises(UserError, match="line 2: expected 'original_vido_id"):
        read("frame_list", tmp_path)


def test_ucf101(tmp_path):
    (tmp_path / "classInd.txt").write_text("1 ApplyLipstick\n2 Archery\n")
    (tmp_path / "trainlist02.txt").write_text("Archery/v_Archery_g08_c01.avi 2\n")
    (tmp_path / "testlist02.txt").write_text("ApplyLipstick/v_g01_c01.avi\n")
    touch(tmp_path, "UCF-101/Archery/v_Archery_g08_c01.avi")
    touch(tmp_path, "UCF-101/ApplyLipstick/v_g01_c01.avi")
    got, listing = read("ucf101", tmp_path, fold=2)
    assert got == [("Archery/v_Archery_g08_c01.avi", (1,))]
    assert listing.classes == ("ApplyLipstick", "Archery")
    for split in ("validation", "test"):
        got, _ = read("ucf101", tmp_path, split, fold=2)
        assert got == [("ApplyLipstick/v_g01_c01.avi", (0,))]
    with pytest.raises(UserError, match="expected trainlist01.txt or ucfTrain"):
        read("ucf101", tmp_path)
    (tmp_path / "trainlist01.txt").write_text("Archer/v.avi 1\n")
    with pytest.raises(UserError, match="line 1: expected Class/video.avi"):
        read("ucf101", tmp_path)


def test_hmdb51(tmp_path):
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    (lists / "run_test_split1.txt").write_text("a.avi 1 \nb.avi 2 \nc.avi 0 \n")
    (lists / "brush_hair_test_split1.txt").write_text("d (1).avi 1 \n")
    touch(tmp_path, "run/a.avi", "run/b.avi", "run/c.avi", "brush_hair/d (1).avi")
    got, listing = read("hmdb51", tmp_path)
    assert got == [("brush_hair/d (1).avi", (0,)), ("run/a.avi", (1,))]
    assert listing.classes == ("brush_hair", "run")
    assert read("hmdb51", tmp_path, "test")[0] == [("run/b.avi", (1,))]
    own = tmp_path / "own"
    (own / "split1").mkdir(parents=True)
    (own / "split1/train.txt").write_text("walk_f_cm_1 79 34\n")
    (own / "walk_f_cm_1").mkdir()
    _, listing = read("hmdb51", own, num_classes=51)
    assert (listing.items[0].length, listing.items[0].labels) == (79, (34,))


def test_charades(tmp_path):
    text = (
        "id,subject,descriptions,actions,length\n"
        'A1B2C,X,"a, b",c092 11.90 21.20;c147 0.00 12.60,33.0\nEMPTY,X,,,10\n'
    )
    (tmp_path / "Charades_v1_train.csv").write_text(text)
    touch(tmp_path, "Charades_v1_480/A1B2C.mp4", "Charades_v1_480/EMPTY.mp4")
    got, listing = read("charades", tmp_path, num_classes=157)
    assert got == [("A1B2C.mp4", (92, 147)), ("EMPTY.mp4", ())]
    assert listing.items[0].spans == ((11.9, 21.2, 92), (0.0, 12.6, 147))
    assert listing.multi_label and len(listing.classes) == 157
    rows = [("A", 0, k, f"A/A-{k + 1:06d}.jpg", "3") for k in range(4)]
    frame_list(tmp_path / "train.csv", rows)
    touch(tmp_path, "A/A-000001.jpg")
    assert read("charades", tmp_path)[0] == [("A", (3,))]
    assert read("charades", tmp_path)[1].classes == ("0", "1", "2", "3")
    classes = "".join(f"c{k:03d} Doing {k}\n" for k in range(157))
    (tmp_path / "Charades_v1_classes.txt").write_text(classes)
    _, listing = read("charades", tmp_path)
    assert listing.classes[3] == "Doing 3" and listing.items[0].labels == (3,)


def test_folders(tmp_path):
    names = [f"{c}/{k}.mp4" for c in ("walk", "run") for k in range(20)]
    touch(tmp_path, *names, ".cache/x.mp4", "walk/notes.txt")
    splits = [read("folders", tmp_path, s)[0] for s in ("train", "validation", "test")]
    assert [len(s) for s in splits] == [32, 4, 4]
    assert sorted(path for s in splits for path, _ in s) == sorted(names)
    assert read("folders", tmp_path)[1].classes == ("run", "walk")
    assert {p: x for s in splits for p, x in s}["walk/3.mp4"] == (1,)
    # Each class gives to every split.
    assert all({x for _, x in s} == {(0,), (1,)} for s in splits)


def test_folders_with_splits(tmp_path):
    touch(tmp_path, "train/a/1.mp4", "train/b/frames_of_2/001.jpg", "val/b/3.avi")
    got, listing = read("folders", tmp_path)
    assert got == [("train/a/1.mp4", (0,)), ("train/b/frames_of_2", (1,))]
    for split in ("validation", "test"):
        assert read("folders", tmp_path, split)[0] == [("val/b/3.avi", (1,))]
    # Another folder beside train/ and val/ is no class; train/ alone is divided.
    (tmp_path / "docs").mkdir()
    assert read("folders", tmp_path)[0] == got
    touch(tmp_path / "one", *(f"train/a/{k}.mp4" for k in range(10)))
    assert len(read("folders", tmp_path / "one")[0]) == 8
    assert len(read("folders", tmp_path / "one", "test")[0]) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no videos"):
        read("folders", tmp_path / "empty")


def test_missing_videos(tmp_path):
    touch(tmp_path, "a.mp4")
    text = "".join(f"{k}.mp4 0\n" for k in "abcdef")
    (tmp_path / "train.csv").write_text(text)
    message = (
        r"train.csv: 5 of 6 videos are not in .*: b.mp4, c.mp4, d.mp4, \.\.\.; set"
    )
    with pytest.raises(UserError, match=message) as caught:
        read("kinetics", tmp_path)
    assert "\n" not in str(caught.value)
    request = Request(tmp_path)
    skips = Skips(True)
    listing, _ = read_list("kinetics", request, skips=skips)
    assert len(listing.items) == 1 and len(skips.names) == 5
    with pytest.raises(UserError, match="data.prefix"):
        read("kinetics", tmp_path, prefix="nowhere")
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(UserError, match="6 of 6 videos"):
        read("kinetics", tmp_path, skip=True)


def test_files_are_found_by_reading_folders(tmp_path, monkeypatch):
    """240,000 videos are not asked for one by one."""
    names = [f"{c}/{k}.mp4" for c in "ab" for k in range(50)]
    touch(tmp_path, *names)
    (tmp_path / "train.csv").write_text("".join(f"{name} 0\n" for name in names))
    asked, read_folders = [], []
    stat, scandir = os.stat, os.scandir
    monkeypatch.setattr(os, "stat", lambda *a, **k: asked.append(a) or stat(*a, **k))
    monkeypatch.setattr(os, "scandir", lambda p: read_folders.append(p) or scandir(p))
    got, _ = read("kinetics", tmp_path)
    assert len(got) == 100 and len(read_folders) == 2 and len(asked) < 20


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("kinetics", "a b\n", "line 1: expected a path and the number of a class"),
        ("kinetics", "a.mp4,1,2,3\n", "line 1: expected a path and a label"),
        ("kinetics", "a.mp4 -1\n", "expected a path and the number"),
        ("kinetics", "", "has no videos"),
        ("frame_folders", "a 1\n", "line 1: expected a folder, its frames and a label"),
        ("frame_list", "a 1\n", "line 1: expected the header 'original_vido_id"),
        ("charades", "name\nx\n", "expected Charades_v1_train.csv"),
    ],
)
def test_wrong_lines(tmp_path, format, text, message):
    touch(tmp_path, "a.mp4")
    for name in ("train.csv", "train.txt"):
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read(format, tmp_path)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_missing_list(tmp_path, format):
    with pytest.raises(UserError) as caught:
        read(format, tmp_path)
    assert "expected" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError):
        read(format, tmp_path, files={"train": "nowhere.txt"})


def test_wrong_classes(tmp_path):
    touch(tmp_path, "run/1.mp4")
    (tmp_path / "labels.txt").write_text("walk\nrunn\n")
    with pytest.raises(UserError, match="did you mean 'runn'"):
        read("folders", tmp_path, labels="labels.txt")
    (tmp_path / "labels.txt").write_text("run\nrun\n")
    with pytest.raises(UserError, match="'run' twice"):
        read("folders", tmp_path, labels="labels.txt")
    with pytest.raises(UserError, match="data.num_classes=3, but .* has 1 classes"):
        read("folders", tmp_path, num_classes=3)
    with pytest.raises(UserError, match="did you mean 'kinetics'"):
        read("kinetic", tmp_path)
