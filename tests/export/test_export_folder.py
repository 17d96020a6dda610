"""Folders: what is in them, the card, the zoo, and what is said of broken ones."""

import json
import shutil

import jax
import numpy as np
import pytest

import stjax
from stjax import cli, zoo
from stjax.errors import UserError
from stjax.export import to_folder

RESULTS = {
    "protocol": "model selected on the validation split",
    "metrics": {"mse": 12.5, "ssim": 0.75},
    "baselines": {"last_frame": {"mse": 20.0, "ssim": 0.5}},
    "clips": 1334,
    "seconds": 300.2,
    "devices": "1 x cpu",
    "versions": {"jax": "0.10.2"},
    "best_step": 0,
}


@pytest.fixture(scope="module")
def folder(tau, tmp_path_factory):
    """With results, as of a training."""
    first = to_folder(tau, tmp_path_factory.mktemp("folders") / "first")
    (first / "results.json").write_text(json.dumps(RESULTS))
    return to_folder(
        str(first),
        first.parent / "tau-small",
        license="cc-by-4.0",
        about="Predicts flows of a city.",
    )


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture
def stjax_command(capsys):
    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["stjax", *map(str, arguments)])
        return end.value.code, *capsys.readouterr()

    return run


def test_the_same_function(folder, tau):
    loaded = stjax.load(folder)
    assert loaded.spec == tau.spec and loaded.run.config.model == tau.run.config.model
    for a, b in zip(*map(jax.tree.leaves, (loaded.variables, tau.variables)), strict=1):
        np.testing.assert_array_equal(a, b)
    assert stjax.load(folder / "model.safetensors").spec == tau.spec


def test_files(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "results.json",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "tau" and config["library_name"] == "stjax"
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "flax"}
        assert {"params.hid.enc_0.block.norm1.scale"} <= set(file.keys())


def test_half(folder, tmp_path):
    """Kernels in float16, the rest and the loaded variables in float32."""
    made = to_folder(str(folder), tmp_path / "half", half=True)
    sizes = [len((f / "model.safetensors").read_bytes()) for f in (made, folder)]
    assert sizes[0] < 0.7 * sizes[1]  # a tiny model: mostly names
    pair = [jax.tree.leaves(stjax.load(f).variables) for f in (made, folder)]
    for got, want in zip(*pair, strict=True):
        rounded = np.asarray(want)
        rounded = rounded.astype(np.float16) if rounded.ndim > 1 else rounded
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, rounded.astype(want.dtype))


def test_card(folder):
    card = (folder / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    values = {
        k: json.loads(v) for k, v in (x.split(": ", 1) for x in head.splitlines())
    }
    assert values["license"] == "cc-by-4.0"
    assert values["pipeline_tag"] == "video-to-video"
    (row,) = values["model-index"][0]["results"]
    assert row["dataset"]["name"] == "taxibj"
    assert row["metrics"][0] == {"name": "mse", "type": "mse", "value": 12.5}
    assert body.startswith("\n# tau-small\n\nPredicts flows of a city.\n")
    assert "| **this model** | 12.5 | 0.75 |\n| last frame | 20 | 0.5 |" in body
    assert "1,334 clips" in body and "- time: 5 min" in body
    assert "stjax train --config=tau/taxibj --workdir=RUN --config.model." in body
    assert "runs on" not in body


def test_paths_of_this_machine_stay_here(tau, tmp_path):
    import dataclasses

    config = tau.run.config.copy_and_resolve_references()
    config.data.path, config.train.init_from = "/home/me/data", "/home/me/run"
    private = stjax.load(to_folder(tau, tmp_path / "a"))
    private.run = dataclasses.replace(tau.run, config=config)
    to_folder(private, tmp_path / "b")
    for path in (tmp_path / "b").iterdir():
        assert b"/home/me" not in path.read_bytes()


def test_stacks_of_blocks_are_stored_one_by_one(original, tmp_path):
    from stjax.export.folder import flat_variables

    _, path, config = original("simvp_tau")
    plain = stjax.load(path, config=config)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.model.n_t, config.model.scan = 3, True
    looped = stjax.load(path, config=config)
    a, b = map(flat_variables, (plain.variables, looped.variables))
    assert a.keys() == b.keys()
    assert stjax.load(to_folder(looped, tmp_path / "a")).model.scan


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damage(copied):
    weights = copied / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    with pytest.raises(UserError, match="model.safetensors is cut off or damaged"):
        stjax.load(copied)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="has the SHA-256 .* not of the same export"):
        stjax.load(copied)
    weights.unlink()
    with pytest.raises(UserError, match="has no model.safetensors; copy the whole"):
        stjax.load(copied)
    weights.write_bytes(content)
    rewrite(copied, format_version=2)
    with pytest.raises(UserError, match="has format 2, this stjax reads up to 1; pip"):
        stjax.load(copied)
    rewrite(copied, format_version=1, format="other")
    with pytest.raises(UserError, match="does not describe a model of stjax"):
        stjax.load(copied)
    (copied / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        stjax.load(copied)


def test_weights_of_another_model(copied):
    config = json.loads((copied / "config.json").read_text())["config"]
    config["model"]["hid_t"] = 16
    rewrite(copied, config=config)
    with pytest.raises(UserError, match="do not fit its config: .* the model has"):
        stjax.load(copied)


def test_what_is_wrong(folder, tmp_path):
    with pytest.raises(UserError, match="there is no runs/nothing; check the path"):
        stjax.load("runs/nothing")
    with pytest.raises(UserError, match="an exported folder, with one step; leave out"):
        stjax.load(folder, 3)
    with pytest.raises(UserError, match="no file of PyTorch; leave out config="):
        stjax.load(folder, config="tau/kth")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match="is no model; give a workdir"):
        stjax.load(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="has no config.json"):
        stjax.load(tmp_path)


def test_zoo(folder, monkeypatch, tmp_path, stjax_command):
    monkeypatch.setattr(zoo, "_HERE", tmp_path)
    with pytest.raises(UserError, match="no file or folder 'tau-smal', and .* no zoo"):
        stjax.load("tau-smal")
    shutil.copytree(folder, tmp_path / "tau-small")
    assert stjax.load("tau-small").source == "tau-small"
    with pytest.raises(UserError, match="did you mean 'tau-small'"):
        stjax.load("tau-smal")
    status, out, _ = stjax_command("models", "--zoo")
    assert status == 0 and out.split()[:3] == ["tau-small", "Predicts", "flows"]
    status, out, _ = stjax_command("models", "tau-small", "--zoo")
    assert status == 0 and out.startswith("# tau-small\n")


def test_commands(original, folder, tmp_path, stjax_command):
    state, path, _ = original("simvp_tau")
    out = tmp_path / "out.safetensors"
    given = ("export", f"--workdir={folder}", f"--output={out}", "--kind=torch")
    status, told, error = stjax_command(*given)
    assert status == 0 and "original's key names" in told, error
    assert stjax.convert.read_file(out).keys() == state.keys()
    wrong = {
        ("export", f"--workdir={folder}"): "--output is missing",
        (*given[:3], "--kind=pytorch"): "unknown kind of export 'pytorch'; did you",
        (*given, "--frames=3"): "--frames and --batch are for --kind=program",
        (*given, "--push=hf://a/b"): "--push uploads a folder",
        ("convert", path, "--config=tau/taxibj", f"--output={tmp_path}/no"): "not fit",
    }
    for arguments, expected in wrong.items():
        status, _, error = stjax_command(*arguments)
        assert status == 2 and error.count("\n") == 1 and expected in error, error
