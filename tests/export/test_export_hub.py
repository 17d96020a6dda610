"""``hf://``: the real client against a server on this machine."""

import numpy as np
import pytest

pytest.importorskip("huggingface_hub")

from huggingface_hub import constants
from loopback import TOKEN, Hub

import stjax
from stjax import cli
from stjax.errors import UserError
from stjax.export import push, to_folder

# The client's own, of the package that it speaks HTTP with.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    yield server
    server.close()


@pytest.fixture(scope="module")
def folder(tau, tmp_path_factory):
    return to_folder(tau, tmp_path_factory.mktemp("hub") / "tau-small")


def test_up_and_down(tau, folder, server):
    assert push(folder, "hf://me/tau-small") == f"{server.url}/me/tau-small"
    files = server.files["me/tau-small"]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    model = stjax.load("hf://me/tau-small")
    for a, b in zip(*(np_leaves(m.variables) for m in (model, tau)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert "hf://me/tau-small" in model.describe()
    before = len([line for line in server.log if "resolve" in line])
    stjax.load(f"hf://me/tau-small@{server.commit('me/tau-small')}")
    assert len([line for line in server.log if "resolve" in line]) == before  # cached


def np_leaves(tree):
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_command(folder, server, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["stjax", "export", f"--workdir={folder}", "--push=hf://me/again"])
    assert end.value.code == 0, capsys.readouterr().err
    assert f"uploaded to {server.url}/me/again" in capsys.readouterr().out
    assert b"# again" in server.files["me/again"]["README.md"]


def test_what_is_wrong(folder, server, monkeypatch, tmp_path):
    for address in ("hf://alone", "hf://a/b/c", "hf://a/b@"):
        with pytest.raises(UserError, match="is not hf://ORG/NAME"):
            stjax.load(address)
    with pytest.raises(UserError, match="hf://me/none does not exist or is private"):
        stjax.load("hf://me/none")
    server.files["me/empty"] = {"README.md": b"nothing"}
    with pytest.raises(UserError, match="has no config.json"):
        stjax.load("hf://me/empty")
    with pytest.raises(UserError, match="has no such branch, tag or commit"):
        stjax.load("hf://me/empty@v2")
    with pytest.raises(UserError, match="is no exported folder"):
        push(tmp_path, "hf://me/tau-small")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(UserError, match="cannot be written by you; with a token"):
        push(folder, "hf://me/tau-small")


def test_code_of_others_does_not_run(folder, server):
    push(folder, "hf://me/theirs")
    files = server.files["me/theirs"]
    files["config.json"] = files["config.json"].replace(
        b'"name": "tau"', b'"name": "this:Zen"'
    )
    with pytest.raises(UserError, match="runs code of its own, this:Zen"):
        stjax.load("hf://me/theirs")
