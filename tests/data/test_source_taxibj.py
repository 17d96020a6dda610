"""TaxiBJ on a miniature dataset.npz."""

import pickle

import numpy as np
import pytest

from stjax.data.sources import open_source
from stjax.errors import UserError

RNG = np.random.default_rng(0)


@pytest.fixture(params=[np.savez, np.savez_compressed])
def folder(tmp_path, request):
    arrays = {
        f"{name}_{split}": RNG.uniform(-1, 1, (n, 4, 2, 32, 32)).astype("f4")
        for split, n in (("train", 40), ("test", 5))
        for name in "XY"
    }
    request.param(tmp_path / "dataset.npz", **arrays)
    return tmp_path


def test_clips_splits_and_scaling(folder):
    arrays = np.load(folder / "dataset.npz")
    splits = {
        s: open_source("taxibj", s, path=folder, holdout=10)
        for s in ("train", "validation", "test")
    }
    # 7 clips between training and validation share frames with both.
    assert [len(s) for s in splits.values()] == [23, 10, 5]
    clip = pickle.loads(pickle.dumps(splits["validation"])).clip(3, RNG)
    expected = arrays["X_train"][33].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(clip["input"], expected)
    clip = splits["test"].clip(4, RNG)
    np.testing.assert_array_equal(clip["target"][..., 1], arrays["Y_test"][4, :, 1])
    spec = splits["train"].spec
    assert spec.input_shape == spec.target_shape == (4, 32, 32, 2)
    seen = (clip["target"] - spec.offset) / spec.scale
    np.testing.assert_allclose(seen, (clip["target"] + 1) / 2, rtol=1e-6)


def test_the_published_protocol(folder):
    splits = ("train", "validation", "test")
    sources = [open_source("taxibj", s, path=folder, holdout=0) for s in splits]
    assert [len(s) for s in sources] == [40, 5, 5]


def test_bad_input(folder):
    with pytest.raises(UserError, match="data.t_out"):
        open_source("taxibj", path=folder, t_out=3)
    with pytest.raises(UserError, match="does not exist"):
        open_source("taxibj", path=folder / "nowhere")
    data = (folder / "dataset.npz").read_bytes()
    (folder / "dataset.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        open_source("taxibj", path=folder)
