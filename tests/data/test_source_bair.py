"""BAIR on miniature .tfrecords, and as TFDS prepares it."""

import pickle
import struct

import numpy as np
import pytest

from stjax.data.records import example_bytes, index_records
from stjax.data.sources import open_source
from stjax.errors import UserError

RNG = np.random.default_rng(0)
FRAMES = 20


def field(number, content):
    length, head = len(content), bytes([number << 3 | 2])
    while length > 127:
        head, length = head + bytes([length & 127 | 128]), length >> 7
    return head + bytes([length]) + content


def example(video):
    """The protocol buffer message: frames, and actions as floats."""
    entries = b""
    for t, frame in enumerate(video):
        action = field(2, field(1, struct.pack("<4f", 0, 1, 2, t)))
        image = field(1, field(1, frame.tobytes()))
        for name, feature in (("action", action), ("image_aux1/encoded", image)):
            entry = field(1, f"{t}/{name}".encode()) + field(2, feature)
            entries += field(1, entry)
    return field(1, entries)


def write_records(path, messages):
    with path.open("wb") as file:
        for m in messages:
            file.write(struct.pack("<Q", len(m)) + b"CRC4" + m + b"CRC4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("bair")
    videos = {}
    for part, n in (("train", 5), ("test", 2)):
        folder = root / "softmotion30_44k" / part
        folder.mkdir(parents=True)
        videos[part] = RNG.integers(0, 256, (n, FRAMES, 64, 64, 3), np.uint8)
        for k in range(0, n, 2):
            messages = [example(v) for v in videos[part][k : k + 2]]
            write_records(folder / f"traj_{k}_to_{k + 1}.tfrecords", messages)
    return root, videos


def test_every_window_of_every_recording(data):
    root, videos = data
    splits = ("train", "validation", "test")
    sources = [open_source("bair", s, path=root) for s in splits]
    each = FRAMES - 16 + 1
    assert [len(s) for s in sources] == [4 * each, each, 2 * each]
    clip = pickle.loads(pickle.dumps(sources[2])).clip(each + 3, RNG)
    np.testing.assert_array_equal(clip["input"], videos["test"][1, 3:7])
    np.testing.assert_array_equal(clip["target"], videos["test"][1, 7:19])
    np.testing.assert_array_equal(
        sources[1].clip(0, RNG)["input"], videos["train"][4, :4]
    )
    sources = [open_source("bair", s, path=root, holdout=0) for s in splits]
    assert [len(s) for s in sources] == [5 * each, 2 * each, 2 * each]


def test_records_are_read_as_tensorflow_writes_them(tmp_path):
    tf = pytest.importorskip("tensorflow")
    features = {
        "a/bytes": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x" * 300])),
        "b": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0, 2.0])),
        "c": tf.train.Feature(int64_list=tf.train.Int64List(value=[-1, 1 << 40])),
        "d": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b""])),
        "e": tf.train.Feature(bytes_list=tf.train.BytesList(value=[])),
    }
    message = tf.train.Example(features=tf.train.Features(feature=features))
    path = str(tmp_path / "a.tfrecords")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"first")
        writer.write(message.SerializeToString())
    (_, length), (position, size) = index_records(path)
    assert length == 5
    with open(path, "rb") as file:
        file.seek(position)
        found = example_bytes(file.read(size))
    assert found == {"a/bytes": b"x" * 300, "d": b""}


def test_as_tfds_prepares_it(data, tmp_path):
    pytest.importorskip("tensorflow")  # to encode the pictures
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(64, 64, 3))
    box = tfds.features.Tensor(shape=(4,), dtype=np.float32)

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("2.0.0")

        def _info(self):
            steps = {"action": box, "image_aux1": image, "image_main": image}
            features = tfds.features.Sequence(steps)
            return tfds.core.DatasetInfo(
                builder=self, features=features, disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            return {k: self._generate_examples(v) for k, v in data[1].items()}

        def _generate_examples(self, videos):
            for k, video in enumerate(videos):
                yield (
                    k,
                    [
                        {
                            "action": np.zeros(4, "f4"),
                            "image_aux1": f,
                            "image_main": 255 - f,
                        }
                        for f in video
                    ],
                )

    Small.name = "bair_robot_pushing_small"
    Small(data_dir=str(tmp_path)).download_and_prepare(file_format="array_record")
    one, two = (open_source("bair", "test", path=p) for p in (data[0], tmp_path))
    two = pickle.loads(pickle.dumps(two))
    assert one.spec == two.spec and len(one) == len(two)
    a, b = one.clip(7, RNG), two.clip(7, RNG)
    np.testing.assert_array_equal(a["target"], b["target"])


def test_bad_input(data, tmp_path):
    with pytest.raises(UserError, match="softmotion30_44k/train does not exist"):
        open_source("bair", path=tmp_path)
    folder = tmp_path / "softmotion30_44k" / "train"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match="holds no .tfrecords"):
        open_source("bair", path=tmp_path)
    write_records(folder / "a.tfrecords", [b"not an example"])
    with pytest.raises(UserError, match="cannot read .*a.tfrecords"):
        open_source("bair", path=tmp_path)
    (folder / "a.tfrecords").write_bytes(b"short")
    with pytest.raises(UserError, match="record 0 is cut"):
        open_source("bair", path=tmp_path)
    with pytest.raises(UserError, match="no window of 34 frames"):
        open_source("bair", path=data[0], t_out=30)
