"""Videos that TensorFlow Datasets prepared, in both of its file formats."""

import io
import json
import pickle
import struct

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from miniatures import _field
from PIL import Image

from stjax.data.sources import open_source
from stjax.errors import UserError

FORMATS = ("array_record", "tfrecord")


def rng(seed=0):
    return np.random.default_rng(seed)


def example(values, label):
    """A tf.train.Example: grey frames as pngs, and a label."""
    video = b""
    for value in values:
        image = Image.fromarray(np.full((20, 24, 3), value, np.uint8))
        image.save(file := io.BytesIO(), "png")
        video += _field(1, file.getvalue())
    features = b""
    for name, feature in (
        (b"video", _field(1, video)),
        (b"label", _field(3, _field(1, bytes([label])))),
    ):
        features += _field(1, _field(1, name) + _field(2, feature))
    return _field(1, features)


def write(root, form, splits):
    """As `download_and_prepare` leaves it."""
    folder = root / "tiny" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "label.labels.txt").write_text("jump\nrun\nwalk\n")
    for split, examples in splits.items():
        path = folder / f"tiny-{split}.{form}-00000-of-00001"
        if form == "array_record":
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for data in examples:
                writer.write(data)
            writer.close()
            continue
        records = (
            struct.pack("<Q", len(e)) + b"\0" * 4 + e + b"\0" * 4 for e in examples
        )
        path.write_bytes(b"".join(records))
    info = {"name": "tiny", "fileFormat": form, "splits": [{"name": s} for s in splits]}
    (folder / "dataset_info.json").write_text(json.dumps(info))


@pytest.fixture(params=FORMATS)
def folder(request, tmp_path):
    train = [example(range(10 * k, 10 * k + 8), k) for k in range(3)]
    write(tmp_path, request.param, {"train": train, "test": [example([9, 9], 2)]})
    return tmp_path


def open_tiny(folder, split="train", **fields):
    fields = {"t_in": 4, "frame_step": 2, "sampling": "strided", "size": 16} | fields
    return open_source("tfds_videos", split, path=str(folder), **fields)


def test_clips(folder):
    source = open_tiny(folder, repeats=2)
    source = pickle.loads(pickle.dumps(source))
    assert len(source) == 3 and source.spec.classes == ("jump", "run", "walk")
    labels = set()
    for index in range(3):
        clip = source.clip(index, rng(index))
        label = int(clip["target"].argmax())
        assert clip["target"].sum() == 1 and clip["input"].shape == (2, 4, 16, 16, 3)
        values = clip["input"].mean((2, 3, 4))
        start = values[0, 0] - 10 * label
        # 7 of 8 frames: two places to start.
        assert start in (0, 1) and np.all(np.diff(values) == 2)
        labels.add(label)
    assert labels == {0, 1, 2}
    # No validation split: the test's. A video of two frames repeats the last.
    source = open_tiny(folder, "validation", clips=2, crops=3)
    clip = source.clip(0, rng())
    assert clip["input"].shape == (6, 4, 16, 16, 3) and clip["target"][2] == 1
    np.testing.assert_array_equal(clip["input"], 9)


def test_other_order_of_classes(folder, tmp_path):
    (tmp_path / "order.txt").write_text("walk\njump\nrun\n")
    source = open_tiny(folder, "test", labels=str(tmp_path / "order.txt"))
    assert source.clip(0, rng())["target"].tolist() == [1, 0, 0]


def test_errors(tmp_path):
    with pytest.raises(UserError, match="expected one data set .* got none"):
        open_tiny(tmp_path)
    write(tmp_path, "tfrecord", {"train": [example([], 0), b"nothing"]})
    source = open_tiny(tmp_path)
    for index, message in enumerate(("has no frames", "cannot read video 1")):
        with pytest.raises(UserError, match=f"{message}.*data.bad=replace"):
            source.clip(index, rng())
    with pytest.raises(UserError, match="no files of the split 'test'; it has: train"):
        open_tiny(tmp_path, "test")
    (tmp_path / "tiny/1.0.0/label.labels.txt").unlink()
    with pytest.raises(UserError, match="features video and label"):
        open_tiny(tmp_path)


@pytest.mark.filterwarnings("ignore")  # of TensorFlow's own
@pytest.mark.parametrize("form", FORMATS)
def test_what_tfds_writes(tmp_path, form):
    """The features of its ucf101, written by itself."""
    pytest.importorskip("tensorflow", reason="TFDS prepares videos with TensorFlow")
    tfds = pytest.importorskip("tensorflow_datasets")

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Three videos."""

        VERSION = tfds.core.Version("1.0.0")
        name = "tiny"

        def _info(self):
            features = {
                "video": tfds.features.Video((None, 20, 24, 3)),
                "label": tfds.features.ClassLabel(names=["jump", "run", "walk"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for k in range(3):
                video = np.arange(10 * k, 10 * k + 7 + k, dtype=np.uint8)
                video = np.broadcast_to(video[:, None, None, None], (7 + k, 20, 24, 3))
                yield k, {"video": video, "label": k}

    Tiny(data_dir=str(tmp_path)).download_and_prepare(file_format=form)
    source = open_tiny(tmp_path)
    got = {}
    for index in range(3):
        clip = source.clip(index, rng())
        label = int(clip["target"].argmax())
        got[label] = clip["input"].mean((0, 2, 3, 4)) - 10 * label
    # 7 frames fit in one place only.
    assert got[0].tolist() == [0, 2, 4, 6] and sorted(got) == [0, 1, 2]
    assert all(np.diff(values).tolist() == [2, 2, 2] for values in got.values())
