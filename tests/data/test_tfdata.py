"""The tf.data twin yields the batches of the Grain pipeline."""

import itertools
import sys

import numpy as np
import pytest

from stjax.data.pipeline import batches, make_dataset
from stjax.data.sources import open_source
from stjax.errors import UserError


def source(split="train"):
    fields = {"size": 16, "digit_size": 7, "t_in": 2, "t_out": 2, "eval_clips": 7}
    return open_source("moving_digits", split, **fields)


class Broken:
    """Clip 5 cannot be read."""

    def __init__(self):
        self.good = source("test")
        self.spec = self.good.spec

    def __len__(self):
        return 8

    def clip(self, index, rng):
        if index == 5:
            raise UserError("clip5.avi: is truncated")
        return self.good.clip(index % 7, rng)


@pytest.fixture
def tensorflow():
    return pytest.importorskip("tensorflow", reason="the tfdata extra is not installed")


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize(("train", "start"), [(True, 0), (True, 9), (False, 1)])
def test_same_batches_as_grain(tensorflow, train, start, workers):
    data = make_dataset(
        source("train" if train else "test"), batch=3, seed=4, train=train, nan="mask"
    )
    got = []
    for backend in ("grain", "tf.data"):
        fields = {"backend": backend, "workers": 0 if backend == "grain" else workers}
        with batches(data, start=start, **fields) as it:
            got.append(list(itertools.islice(it, 4)))
    assert len(got[0]) == len(got[1]) == (4 if train else 2)
    for first, second in zip(*got, strict=True):
        assert first.keys() == second.keys()
        for key in first:
            assert first[key].dtype == second[key].dtype
            np.testing.assert_array_equal(first[key], second[key])


def test_error_of_a_clip_reaches_the_caller(tensorflow):
    data = make_dataset(Broken(), batch=2, train=False)
    with batches(data, backend="tf.data") as it:
        next(it), next(it)
        with pytest.raises(UserError, match="clip5.avi: is truncated"):
            next(it)


def test_start_after_the_end(tensorflow):
    data = make_dataset(source("test"), batch=3, train=False)
    with batches(data, start=3, backend="tf.data") as it:
        assert list(it) == []


def test_without_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    data = make_dataset(source(), batch=3, train=True)
    with pytest.raises(UserError, match=r"pip install 'stjax\[tfdata\]'"):
        batches(data, backend="tf.data")
