"""PyTorch's keys -> stjax -> a folder -> stjax -> PyTorch's keys: nothing changes."""

import numpy as np
import pytest

import stjax
from stjax.convert import read_file
from stjax.errors import UserError
from stjax.export import to_folder, to_torch

NAMES = ("simvp_tau", "i3d_r50_w4_nl_softmax", "uniformer_tiny_std")


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].dtype == b[key].dtype
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(original, name, tmp_path):
    state, path, config = original(name)
    folder = to_folder(stjax.load(path, config=config), tmp_path / "folder")
    for ending in (".safetensors", ".npz"):
        back = to_torch(str(folder), tmp_path / f"back{ending}")
        found = dict(np.load(back)) if ending == ".npz" else read_file(back)
        equal(found, state)


def test_files_of_pytorch(original, tau, tmp_path):
    torch = pytest.importorskip("torch")
    state, _, config = original("simvp_tau")
    path = to_torch(tau, tmp_path / "tau.pth")
    read = torch.load(path, weights_only=True)
    equal({k: v.numpy() for k, v in read.items()}, state)
    equal(read_file(to_torch(stjax.load(path, config=config), path)), state)


def test_keys_of_another_project(original, tmp_path):
    _, path, config = original("uniformer_tiny_std")
    model = stjax.load(path, config=config)
    other = read_file(to_torch(model, tmp_path / "a.safetensors", project="mmaction2"))
    assert "backbone.patch_embed1.proj.weight" in other
    with pytest.raises(UserError, match="did you mean 'mmaction2'"):
        to_torch(model, tmp_path / "a.safetensors", project="mmaction")


def test_names_of_classes(original, tmp_path):
    _, path, config = original("uniformer_tiny_std")
    labels = list("abcdefg")
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    for given in (labels, str(tmp_path / "labels.txt")):
        model = stjax.load(path, config=config, labels=given)
        assert model.spec.classes == tuple(labels)
    with pytest.raises(UserError, match="has 7 classes, the model has 6"):
        stjax.load(path, config=config, labels=labels[:6])


def test_what_is_wrong(original, tau, tmp_path):
    _, path, config = original("simvp_tau")
    with pytest.raises(UserError, match="weights alone; say what they are of"):
        stjax.load(path)
    with pytest.raises(UserError, match="leave out step='last'"):
        stjax.load(path, "last", config=config)
    with pytest.raises(UserError, match="labels are for recognisers"):
        stjax.load(path, config=config, labels=["a"])
    with pytest.raises(UserError, match="not a SimVP checkpoint of OpenSTL"):
        stjax.load(original("uniformer_tiny_std")[1], config=config)
    with pytest.raises(UserError, match=r"'a.bin'; name it .safetensors, .npz or .pth"):
        to_torch(tau, tmp_path / "a.bin")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="is the download complete"):
        stjax.load(tmp_path / "cut.safetensors", config=config)
