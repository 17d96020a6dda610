"""Any source can be written once as ArrayRecord shards and read back."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from stjax.config import load_config
from stjax.data.builder import build
from stjax.data.sources import open_source
from stjax.errors import UserError
from stjax.training.inputs import open_split

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    path = tmp_path_factory.mktemp("array") / "a.npy"
    data = np.random.default_rng(1).normal(5, 2, (60, 5, 7, 3)).astype(np.float32)
    data[:, 2, 2] = np.nan
    np.save(path, data)
    return path


FIELDS = {"t_in": 2, "t_out": 3, "target_channels": (2,), "fractions": (0.6, 0.2, 0.2)}


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_read_is_what_was_written(array, tmp_path, compress):
    folder = build("files", tmp_path, path=array, compress=compress, **FIELDS)
    assert folder == tmp_path / "files" / "1.0.0"
    assert list(folder.glob("*.array_record*"))
    for split in ("train", "validation", "test"):
        original = open_source("files", split, path=array, **FIELDS)
        copy = open_source("tfds", split, path=tmp_path)
        copy = pickle.loads(pickle.dumps(copy))
        assert copy.spec == original.spec and len(copy) == len(original)
        for k in (0, len(copy) - 1):
            a, b = original.clip(k, RNG), copy.clip(k, RNG)
            for name in ("input", "target"):
                np.testing.assert_array_equal(a[name], b[name])
                assert a[name].dtype == b[name].dtype
    with pytest.raises(UserError, match="exists already") as error:
        build("files", tmp_path, path=array, **FIELDS)
    assert "\n" not in str(error.value)


def test_generated_clips_are_those_of_their_index(tmp_path):
    fields = {"train_clips": 3, "size": 32, "digit_size": 16}
    build("moving_digits", tmp_path, splits=["train"], compress=True, **fields)
    copy = open_source("tfds", path=tmp_path / "moving_digits")
    original = open_source("moving_digits", **fields)
    clip = original.clip(2, np.random.default_rng([0, 2]))
    np.testing.assert_array_equal(copy.clip(2, RNG)["input"], clip["input"])
    with pytest.raises(UserError, match="no split 'test'; it has: train"):
        open_source("tfds", "test", path=tmp_path)
    with pytest.raises(UserError, match="data.t_out=5"):
        open_source("tfds", path=tmp_path, t_out=5)


def test_neither_writing_nor_reading_needs_tensorflow(array, tmp_path):
    program = f"""
import sys
from importlib.machinery import PathFinder
class NoTensorFlow(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] != "tensorflow":
            return PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = NoTensorFlow
try:
    import tensorflow
    raise SystemExit("tensorflow is not hidden")
except ModuleNotFoundError:
    pass
from stjax.data.builder import build
from stjax.data.sources import open_source
build("files", {str(tmp_path)!r}, path={str(array)!r}, t_in=2, t_out=3, compress=True)
source = open_source("tfds", "test", path={str(tmp_path)!r})
print(source.clip(0, None)["input"].shape, len(source))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "(2, 5, 7, 3) 2"


def test_bad_input(array, tmp_path):
    with pytest.raises(UserError, match="expected one data set"):
        open_source("tfds", path=tmp_path)
    with pytest.raises(UserError, match="unknown data source"):
        build("fils", tmp_path)
    with pytest.raises(UserError, match="unknown field"):
        build("files", tmp_path, path=array, tin=3)
    with pytest.raises(UserError, match="too short"):
        build("files", tmp_path, path=array, t_in=30, t_out=30)
    assert not list(tmp_path.iterdir())


def test_a_config_trains_on_its_data_written_as_shards(tmp_path):
    config = load_config("tau/moving_digits:miniature")
    names = ("t_in", "t_out", "size", "digit_size", "train_clips", "eval_clips")
    fields = {name: config.data[name] for name in names}
    config.data.path = str(build("moving_digits", tmp_path, **fields))
    config.data.source = "tfds"
    copy = open_split(config, "train")
    assert (len(copy), copy.spec.input_shape) == (8, (2, 16, 16, 1))
    config.data.t_out = 5
    with pytest.raises(UserError, match="data.t_out=5"):
        open_split(config, "train")


def test_what_reads_no_buckets_says_so():
    with pytest.raises(UserError, match="'files' reads local files.*data.source=tfds"):
        open_source("files", path="gs://bucket/clips", t_in=2, t_out=2)
