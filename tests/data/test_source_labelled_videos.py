"""Labelled videos: miniature files of every format, footage with numbered frames."""

import concurrent.futures
import pickle

import av
import numpy as np
import pytest
from miniatures import labelled_videos, video_folders, write_video
from PIL import Image

from stjax.data.base import LabelSpec
from stjax.data.footage import VideoFootage
from stjax.data.lists import FORMATS
from stjax.data.pipeline import batches, make_dataset
from stjax.data.sources import open_source
from stjax.data.video import decode, index_video
from stjax.errors import UserError

PLAIN = {"scale": (1.0, 1.0), "aspect": (1.0, 1.0), "flip": False}


def rng(seed=0):
    return np.random.default_rng(seed)


def numbered(n, height=32, width=32):
    """[n, height, width, 3]: frame k has the value 16 + 4 k."""
    values = 16 + 4 * np.arange(n, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None, None], (n, height, width, 3))


def numbers(views):
    """[views, T] numbers of the frames."""
    return np.rint((views.mean((2, 3, 4)) - 16) / 4).astype(int).tolist()


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Classes with videos of 50 frames at 10 a second."""
    root = tmp_path_factory.mktemp("films")
    for name in ("train/a/1", "train/b/1", "val/b/2"):
        write_video(root / f"{name}.mp4", numbered(50), "libx264", gop=10)
    return root


def open_films(films, split="train", **fields):
    fields = {"t_in": 4, "frame_step": 2, "sampling": "strided", "size": 16} | fields
    return open_source("labelled_videos", split, path=str(films), **fields)


def test_train(films):
    source = open_films(films, repeats=2, augment=PLAIN)
    assert source.spec == LabelSpec(4, 16, 16, ("a", "b"), views=2)
    starts = set()
    for seed in range(10):
        clip = source.clip(1, rng(seed))
        first, second = numbers(clip["input"])
        # Views of one clip.
        assert first == second and np.diff(first).tolist() == [2, 2, 2]
        starts.add(first[0])
        assert clip["target"].tolist() == [0, 1]
    assert len(starts) > 3
    again = source.clip(1, rng(3))["input"]
    np.testing.assert_array_equal(again, source.clip(1, rng(3))["input"])


def test_evaluation_is_clip_by_clip(films, tmp_path):
    source = open_films(films, "validation", clips=3, crops=3)
    clip = source.clip(0, rng())
    # 7 of 50 frames: room 43, every 21.5, halves to even.
    expected = [[s, s + 2, s + 4, s + 6] for s in (0, 22, 43) for _ in range(3)]
    assert numbers(clip["input"]) == expected and source.spec.views == 9
    np.testing.assert_array_equal(clip["input"], source.clip(0, rng(1))["input"])
    # Left, centre and right of a ramp.
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None] * 3, (8, 16, 64, 3))
    write_video(tmp_path / "train/a/1.mp4", ramp)
    write_video(tmp_path / "test/a/1.mp4", ramp)
    wide = open_films(tmp_path, "test", clips=2, crops=3).clip(0, rng())["input"]
    means = wide.mean((1, 2, 3, 4)).reshape(2, 3)
    # Pixels 0..15, 24..39 and 48..63, three grey levels each.
    np.testing.assert_allclose(means, [[22.5, 94.5, 166.5]] * 2, atol=4)


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    root = tmp_path_factory.mktemp("lists")
    labelled_videos(root)
    frames = root / "20bn-something-something-v1"
    for name in ("train", "val"):
        k = int(name == "val")
        rows = [f"{frames.name}/{k}{x} 14 {x}\n" for x in range(2)]
        (root / f"{name}.txt").write_text("".join(rows))
    rows = [
        f'{v} 0 {k} {frames.name}/{v}/{k + 1:05d}.jpg "{k // 7}"\n'
        for v in ("00", "01")
        for k in range(14)
    ]
    head = "original_vido_id video_id frame_id path labels\n"
    (root / "frames.csv").write_text(head + "".join(rows))
    video_folders(root / "folders")
    return root


FIELDS = {
    "folders": {"prefix": "folders"},
    "frame_folders": {"frame_pattern": "{:05d}.jpg", "train_list": "train.txt"}
    | {"validation_list": "val.txt"},
    "frame_list": {"train_list": "frames.csv", "validation_list": "frames.csv"},
}


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_format(miniatures, format):
    for split in ("train", "validation", "test"):
        source = open_source(
            "labelled_videos",
            split,
            path=str(miniatures),
            format=format,
            size=16,
            t_in=4,
            clips=2,
            num_classes=2,
            **FIELDS.get(format, {}),
        )
        assert len(source) >= 2 and source.spec.multi_label == (
            format in ("charades", "frame_list")
        )
        for index in range(len(source)):
            clip = source.clip(index, rng(index))
            for name, (shape, dtype) in source.spec.arrays.items():
                assert clip[name].shape == shape and clip[name].dtype == dtype


def test_frames_and_video_agree(films, tmp_path):
    """A folder of images has the clips of a video with the same frames."""
    for k, frame in enumerate(numbered(50)):
        path = tmp_path / "x" / f"img_{k + 1:05d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(frame).save(path)
    (tmp_path / "train.txt").write_text("x 50 0\n")
    fields = {"format": "frame_folders", "frame_pattern": "img_{:05d}.png"}
    frames = open_films(tmp_path, augment=PLAIN, num_classes=1, **fields)
    video = open_films(films, augment=PLAIN)
    for seed in range(4):
        got = frames.clip(0, rng(seed))["input"]
        expected = video.clip(0, rng(seed))["input"]
        np.testing.assert_allclose(got.astype(int), expected, atol=2)


def test_labels_of_the_frames_that_a_clip_spans(tmp_path):
    write_video(tmp_path / "A.mp4", numbered(50), "libx264")
    rows = "id,actions\nA,c000 0.00 0.95;c001 1.00 9.00\n"
    for part in ("train", "test"):
        (tmp_path / f"Charades_v1_{part}.csv").write_text(rows)
    source = open_films(tmp_path, format="charades", augment=PLAIN)
    seen = set()
    for seed in range(40):
        clip = source.clip(0, rng(seed))
        first, *_, last = numbers(clip["input"])[0]
        # 10 frames a second: class 0 up to frame 9, class 1 from frame 10 on.
        assert clip["target"].tolist() == [first <= 9, last >= 10]
        seen.add(tuple(clip["target"]))
    assert seen >= {(0, 1), (1, 1)}
    # Evaluation: all that the video has.
    source = open_films(tmp_path, "validation", format="charades")
    assert source.clip(0, rng())["target"].tolist() == [1, 1]


def test_channels_and_normalisation(tmp_path):
    """Models of Something-Something and Charades see blue first."""
    for name in ("train", "val"):
        red = np.zeros((6, 16, 16, 3), np.uint8)
        red[..., 0] = 200
        write_video(tmp_path / name / "a/1.mp4", red)
    fields = {"mean": (0.5, 0.4, 0.3), "std": (0.25,), "reverse_channels": True}
    source = open_films(tmp_path, "validation", **fields)
    values = source.clip(0, rng())["input"].mean((0, 1, 2, 3))
    assert values[2] > 150 and values[0] < 60
    assert source.spec.channels == ("blue", "green", "red")
    np.testing.assert_allclose(source.spec.offset, (127.5, 102, 76.5))
    np.testing.assert_allclose(source.spec.scale, [63.75] * 3)


def test_short_videos_repeat_frames(tmp_path):
    write_video(tmp_path / "train/a/1.mp4", numbered(3), "libx264")
    write_video(tmp_path / "val/a/1.mp4", numbered(1), "libx264")
    source = open_films(tmp_path, sampling="dense", t_in=8, frame_step=1, augment=PLAIN)
    assert numbers(source.clip(0, rng())["input"]) == [[0, 1, 2, 2, 2, 2, 2, 2]]
    source = open_films(tmp_path, "validation", sampling="uniform")
    assert numbers(source.clip(0, rng())["input"]) == [[0, 0, 0, 0]]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_footage_is_exact(tmp_path, codec):
    """Any frames, over any gaps, with and without B-frames."""
    path = tmp_path / "x.mp4"
    write_video(path, rng().integers(0, 256, (165, 32, 32, 3), np.uint8), codec, gop=40)
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    footage = VideoFootage(str(path))
    assert (footage.length, footage.rate) == (165, 10.0)
    for seed in range(8):
        wanted = rng(seed).integers(0, 165, 1 + seed).tolist()
        got = dict(footage.frames(wanted))
        assert list(got) == sorted(set(wanted))
        for k, frame in got.items():
            np.testing.assert_array_equal(frame, frames[k])
    # Decoding begins at the last key frame, not at one before it.
    index = index_video(path)
    for first in (50, 100, 160):
        key = np.searchsorted(index.pts, index.keys[:, 0])
        assert next(decode(index, first))[0] == key[key <= first].max() > 0


def test_footage_of_real_video(reference):
    path = reference / "data" / "videos" / "bikes.mp4"
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    footage = VideoFootage(str(path))
    assert footage.length == len(frames) == 250 and footage.rate == 25
    for wanted in ([0, 249], list(range(60, 124, 4)), [3, 100, 101, 240]):
        for k, frame in footage.frames(wanted):
            np.testing.assert_array_equal(frame, frames[k])


def broken(root):
    """Five files that are no videos, and one that is."""
    for name in ("notvideo", "empty"):
        path = root / f"train/a/{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"nothing" * 100 if name == "notvideo" else b"")
    (root / "train/a/noframes").mkdir()
    (root / "train/a/text").mkdir()
    (root / "train/a/text/1.jpg").write_text("no image")
    write_video(root / "train/b/good.mp4", numbered(12), "libx264")
    data = (root / "train/b/good.mp4").read_bytes()
    (root / "train/a/cut.mp4").write_bytes(data[: len(data) // 2])
    write_video(root / "val/a/1.mp4", numbered(12))


def test_broken_videos(tmp_path):
    broken(tmp_path)
    source = open_films(tmp_path, augment=PLAIN)
    assert len(source) == 6 and len(source.names) == 6
    for index, name in enumerate(source.names[:5]):
        with pytest.raises(UserError, match=f"{name}.*data.bad=replace") as caught:
            source.clip(index, rng())
        assert "\n" not in str(caught.value)
    dataset = make_dataset(source, batch=2, train=True, bad="replace")
    for step in range(3):
        assert dataset[step]["target"].tolist() == [[0, 1]] * 2


def test_workers_and_threads(films):
    source = open_films(films, repeats=2)
    dataset = make_dataset(source, batch=2, train=True)
    with batches(dataset, workers=1) as parallel:
        for step in range(2):
            got, expected = next(parallel), dataset[step]
            assert got["input"].shape == (2, 2, 4, 16, 16, 3)
            for key, value in expected.items():
                np.testing.assert_array_equal(got[key], value)
    source = pickle.loads(pickle.dumps(source))
    expected = [source.clip(k % 2, rng(k))["input"] for k in range(12)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda k: source.clip(k % 2, rng(k))["input"], range(12)))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": 3}, "did you mean 'crops'"),
        ({"clips": 0}, "data.clips=0: expected at least 1"),
        ({"crops": 2}, "data.crops=2: expected 1"),
        ({"repeats": 0}, "data.repeats=0"),
        ({"clips": 2, "sampling": "slowfast_uniform"}, "has one place in time only"),
        ({"augment": {"jiter": 3}}, "did you mean 'jitter'"),
        ({"aggregate": "median"}, "data.aggregate"),
        ({"mean": (114.75,)}, "data.mean=.* frames in"),
        ({"format": "folder"}, "did you mean 'folders'"),
        ({"frame_pattern": "img_%05d.jpg"}, "expected a place for a number"),
        ({"test_short_side": 8}, "smaller than crops of 16"),
        ({"labels": "nowhere.txt"}, "cannot read the list .*nowhere.txt"),
    ],
)
def test_wrong_fields(films, fields, message):
    with pytest.raises(UserError, match=message):
        open_films(films, "validation", **fields)


def test_missing_videos_are_named(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(5))
    (tmp_path / "train.csv").write_text("a.mp4 0\nb.mp4 1\n")
    fields = {"format": "kinetics", "num_classes": 2}
    with pytest.raises(UserError, match=r"1 of 2 videos are not in .*: b\.mp4; set"):
        open_films(tmp_path, **fields)
    source = open_films(tmp_path, skip_unreadable=True, **fields)
    assert len(source) == 1 and source.skipped == ["b.mp4"]
