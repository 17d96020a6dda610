"""Moving digits and Moving MNIST, each on a miniature of its real files."""

import gzip
import pickle
import struct

import numpy as np
import pytest

from stjax.data.digits import EMBEDDED, load_digits, read_idx, resize_area
from stjax.data.sources import list_sources, open_source
from stjax.errors import UserError

RNG = np.random.default_rng(0)
SPLITS = ("train", "validation", "test")


def idx_bytes(images):
    return struct.pack(">IIII", 0x803, *images.shape) + images.tobytes()


@pytest.fixture(scope="module")
def digits():
    return load_digits("train")[:24]


@pytest.fixture
def folder(tmp_path, digits):
    """The files of Moving MNIST with 24 digits and 5 clips."""
    data = gzip.compress(idx_bytes(digits))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(data)
    clips = RNG.integers(0, 256, (20, 5, 64, 64), dtype=np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", clips)
    return tmp_path


def test_embedded_digits_are_split_disjointly_and_carry_their_notice():
    splits = {split: load_digits(split) for split in SPLITS}
    assert [len(splits[s]) for s in SPLITS] == [1400, 300, 300]
    rows = [{image.tobytes() for image in splits[s]} for s in SPLITS]
    assert not (rows[0] & rows[1] or rows[0] & rows[2] or rows[1] & rows[2])
    with np.load(EMBEDDED) as z:
        notice = str(z["notice"])
        assert z["images"].shape == (2000, 28, 28) and z["labels"].shape == (2000,)
    for words in ("CC BY-SA 3.0", "Yann LeCun", "Corinna Cortes"):
        assert words in notice


def test_embedded_digits_are_the_real_ones(reference):
    with np.load(reference / "data/mnist10k.npz") as real, np.load(EMBEDDED) as z:
        np.testing.assert_array_equal(z["images"], real["images"][:2000])
        np.testing.assert_array_equal(z["labels"], real["labels"][:2000])


def test_area_averaging_takes_the_mean_of_what_a_pixel_covers():
    images = RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    blocks = images.reshape(3, 14, 2, 14, 2).astype(np.float64).mean((2, 4))
    np.testing.assert_array_equal(resize_area(images, 14), np.rint(blocks))
    # 3 -> 2: each new pixel covers one and a half old ones.
    line = np.array([[[0, 60, 240]] * 3], np.uint8)
    assert resize_area(line, 2).tolist() == [[[20, 180], [20, 180]]]


@pytest.mark.parametrize("kind", ["keras", "idx", "idx.gz", "folder"])
def test_digits_by_path(tmp_path, digits, kind):
    test = digits[18:]
    path = tmp_path / f"digits.{kind}"
    if kind == "keras":
        path = tmp_path / "mnist.npz"
        labels = np.zeros(24, np.uint8)
        np.savez(path, x_train=digits, y_train=labels, x_test=test, y_test=labels[:6])
    elif kind == "folder":
        path.mkdir()
        (path / "train-images-idx3-ubyte").write_bytes(idx_bytes(digits))
        compressed = gzip.compress(idx_bytes(test))
        (path / "t10k-images-idx3-ubyte.gz").write_bytes(compressed)
    else:
        data = idx_bytes(digits)
        path.write_bytes(gzip.compress(data) if kind == "idx.gz" else data)
    got = {split: load_digits(split, str(path)) for split in SPLITS}
    if kind in ("keras", "folder"):
        expected = {"train": digits[:20], "validation": digits[20:], "test": test}
    else:
        bounds = {"train": (0, 16), "validation": (16, 20), "test": (20, 24)}
        expected = {s: digits[a:b] for s, (a, b) in bounds.items()}
    for split in SPLITS:
        np.testing.assert_array_equal(got[split], expected[split])


def write_tfds(folder, name, version, features, splits, file_format):
    """Prepares a TFDS data set of that name from examples."""
    pytest.importorskip("tensorflow", reason="the tfdata extra is not installed")
    import tensorflow_datasets as tfds

    class Miniature(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            fields = tfds.features.FeaturesDict(features(tfds))
            return tfds.core.DatasetInfo(builder=self, features=fields)

        def _split_generators(self, manager):
            return {key: enumerate(items) for key, items in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Miniature.name = name
    Miniature(data_dir=folder, file_format=file_format).download_and_prepare()


def test_digits_from_prepared_tfds(tmp_path, digits):
    write_tfds(
        tmp_path,
        "mnist",
        "3.0.1",
        lambda tfds: {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        },
        {
            "train": [{"image": image[..., None], "label": 0} for image in digits[:18]],
            "test": [{"image": image[..., None], "label": 0} for image in digits[18:]],
        },
        "array_record",
    )
    path = f"tfds:{tmp_path}"
    got = {split: {d.tobytes() for d in load_digits(split, path)} for split in SPLITS}
    # TFDS has its own order of examples.
    assert got["test"] == {d.tobytes() for d in digits[18:]}
    assert got["train"] | got["validation"] == {d.tobytes() for d in digits[:18]}
    assert [len(got[s]) for s in SPLITS] == [15, 3, 6]


def test_digits_from_tfds_need_no_tensorflow(tmp_path, digits, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    asked = []

    def data_source(name, *, split, data_dir, download):
        asked.append((name, split, data_dir, download))
        return [{"image": image[..., None], "label": 0} for image in digits]

    monkeypatch.setattr(tfds, "data_source", data_source)
    got = load_digits("validation", f"tfds:{tmp_path}")
    np.testing.assert_array_equal(got, digits[20:])
    folder = str(tmp_path)
    assert asked == [("mnist", s, folder, False) for s in ("train", "test")]


def test_digits_from_tfds_not_prepared(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(UserError, match="download_and_prepare") as error:
        load_digits("train", f"tfds:{tmp_path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        (
            "a.idx",
            idx_bytes(np.zeros((3, 4, 4), np.uint8))[:-5],
            "truncated or damaged",
        ),
        ("a.gz", gzip.compress(b"x" * 99, mtime=0)[:-9], "cannot be read"),
        ("a.idx", b"\0\0\x08\x01" + bytes(20), "not an idx file"),
        ("a.npz", b"PK\x03\x04 not really", "cannot be read as mnist.npz"),
        (None, None, "no such file"),
    ],
)
def test_damaged_digit_files(tmp_path, name, data, says):
    path = tmp_path / (name or "missing.npz")
    if name:
        path.write_bytes(data)
    with pytest.raises(UserError, match=says) as error:
        load_digits("train", str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_read_idx_values(tmp_path):
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "x").write_bytes(idx_bytes(images))
    np.testing.assert_array_equal(read_idx(tmp_path / "x"), images)


def test_moving_digits_clips():
    rng = np.random.default_rng
    fields = {"size": 32, "digit_size": 14, "t_in": 4, "t_out": 3, "eval_clips": 6}
    train = open_source("moving_digits", "train", **fields)
    test = open_source("moving_digits", "test", **fields)
    assert len(train) == 10_000 and len(test) == 6
    clip = train.clip(0, rng(1))
    assert clip["input"].shape == train.spec.input_shape == (4, 32, 32, 1)
    assert clip["target"].shape == train.spec.target_shape == (3, 32, 32, 1)
    assert clip["input"].dtype == np.uint8
    assert (clip["input"] != train.clip(0, rng(2))["input"]).any()
    # A test clip depends on its index alone.
    same = test.clip(3, rng(1))["input"], test.clip(3, rng(2))["input"]
    np.testing.assert_array_equal(*same)
    assert (test.clip(4, rng(1))["input"] != same[0]).any()
    validation = open_source("moving_digits", "validation", **fields)
    assert (validation.clip(3, rng(1))["input"] != same[0]).any()


def test_moving_mnist_splits(folder):
    rng = np.random.default_rng
    fields = {"path": str(folder), "holdout": 4, "train_clips": 7, "t_out": 8}
    train, validation, test = (open_source("moving_mnist", s, **fields) for s in SPLITS)
    assert [len(s) for s in (train, validation, test)] == [7, 1000, 5]
    assert test.spec.input_shape == (10, 64, 64, 1)
    assert test.spec.target_shape == (8, 64, 64, 1)
    clips = np.load(folder / "mnist_test_seq.npy")
    got = test.clip(2, rng(0))
    np.testing.assert_array_equal(got["input"][..., 0], clips[:10, 2])
    np.testing.assert_array_equal(got["target"][..., 0], clips[10:18, 2])
    assert len(train._digits) == 20 and len(validation._digits) == 4
    fixed = [validation.clip(1, rng(s))["target"] for s in (0, 1)]
    np.testing.assert_array_equal(*fixed)
    assert (train.clip(1, rng(0))["target"] != train.clip(1, rng(1))["target"]).any()


def test_moving_mnist_test_file_pickles_as_its_path(folder):
    test = open_source("moving_mnist", "test", path=str(folder))
    data = pickle.dumps(test)
    assert len(data) < 2000
    copy = pickle.loads(data).clip(1, None)
    np.testing.assert_array_equal(copy["input"], test.clip(1, None)["input"])


@pytest.mark.parametrize(
    ("split", "name"),
    [("train", "train-images-idx3-ubyte.gz"), ("test", "mnist_test_seq.npy")],
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_moving_mnist_damaged_files(folder, split, name, damage):
    file = folder / name
    data = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    with pytest.raises(UserError, match="get it from|get it again|expected") as error:
        open_source("moving_mnist", split, path=str(folder), holdout=4)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_moving_mnist_bad_requests(folder):
    path = str(folder)
    with pytest.raises(UserError, match="has 20 frames"):
        open_source("moving_mnist", "test", path=path, t_out=11)
    with pytest.raises(UserError, match="holdout=24"):
        open_source("moving_mnist", "train", path=path, holdout=24)
    with pytest.raises(UserError, match="holdout=0"):
        open_source("moving_mnist", "validation", path=path, holdout=0)
    with pytest.raises(UserError, match="'npy' or 'tfds'"):
        open_source("moving_mnist", "test", path=path, test="zip")
    np.save(folder / "mnist_test_seq.npy", np.zeros((20, 5, 32, 32), np.uint8))
    with pytest.raises(UserError, match=r"uint8 \(20, 5, 32, 32\)"):
        open_source("moving_mnist", "test", path=path)


def test_moving_mnist_from_tfds(tmp_path):
    clips = RNG.integers(0, 256, (3, 20, 64, 64, 1), dtype=np.uint8)
    write_tfds(
        tmp_path,
        "moving_mnist",
        "1.0.0",
        lambda tfds: {"image_sequence": tfds.features.Video(shape=(20, 64, 64, 1))},
        {"test": [{"image_sequence": clip} for clip in clips]},
        "tfrecord",
    )
    test = open_source("moving_mnist", "test", path=str(tmp_path), test="tfds")
    got = {test.clip(i, None)["target"].tobytes() for i in range(len(test))}
    assert got == {clip[10:].tobytes() for clip in clips}  # TFDS has its own order


def test_moving_mnist_from_tfds_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"pip install 'stjax\[tfdata\]'"):
        open_source("moving_mnist", "test", path=str(tmp_path), test="tfds")


def test_open_source_names_what_is_wrong():
    assert {"moving_digits", "moving_mnist"} <= set(list_sources())
    cases = [
        ({"name": "moving_digit"}, "did you mean 'moving_digits'"),
        ({"name": "moving_digits", "split": "val"}, "unknown split 'val'"),
        ({"name": "moving_digits", "siez": 3}, "siez.*did you mean 'size'"),
        ({"name": "moving_mnist"}, "needs data.path"),
        ({"name": "moving_digits", "digit_size": 80}, "digit_size=80 does not fit"),
    ]
    for fields, says in cases:
        with pytest.raises(UserError, match=says):
            open_source(**fields)
    # Placeholders of a config are None: not given.
    assert open_source("moving_digits", path=None, size=None).spec.height == 64
