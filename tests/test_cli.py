"""The command line as a user types it, bad input included."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from stjax import cli, doctor
from stjax.cli import flagging
from stjax.errors import UserError

DIGITS = "--config=tau/moving_digits:miniature"


@pytest.fixture
def stjax(capsys):
    """``stjax("train", ...) -> (exit status, stdout, stderr)``, in this process."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["stjax", *map(str, arguments)])
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def wrong(stjax):
    """Asserts that a command fails as a user's error does, and returns the line."""

    def run(*arguments):
        status, out, err = stjax(*arguments)
        assert status == 2, out + err
        assert out == "" and err.count("\n") == 1 and err.startswith("stjax: "), err
        return err.removeprefix("stjax: ").strip()

    return run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a real training, two steps long."""
    folder = tmp_path_factory.mktemp("run") / "digits"
    with pytest.raises(SystemExit) as end:
        cli.main(["stjax", "train", DIGITS, f"--workdir={folder}"])
    assert end.value.code == 0
    return folder


def clip(frames=4, height=16, width=16, *channels):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (frames, height, width, *channels), np.uint8)


def save(path, array):
    np.save(path, array)
    return f"--input={path}"


# --- as a program


def program(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "stjax.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": ""},
        timeout=60,
    )


def test_help_of_the_program_is_quick_and_short():
    code = "import sys, stjax.cli; heavy = {'jax', 'flax', 'numpy', 'grain'}"
    code += "; stjax.cli._dispatch([]); sys.exit(' '.join(heavy & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
    assert "usage: stjax COMMAND" in done.stdout
    assert len(done.stdout.splitlines()) < 30


def test_program_exit_statuses():
    done = program("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"stjax \d+\.\d+\.\d+\n", done.stdout)
    done = program("train", "--config=tau/moving_digit", "--workdir=x")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        "stjax: unknown config 'tau/moving_digit'; did you mean 'tau/moving_digits'?\n"
    )


# --- help and lists


def test_help(stjax):
    for arguments in ([], ["--help"], ["help"], ["-h"]):
        status, out, _ = stjax(*arguments)
        assert status == 0
        assert all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command(stjax, command):
    status, out, _ = stjax(command, "--help")
    assert status == 0 and out.startswith(f"usage: stjax {command}")
    assert len(out.splitlines()) < 30
    assert stjax("help", command)[1] == out


def test_datasets(stjax):
    status, out, _ = stjax("datasets")
    assert status == 0
    assert re.search(r"^moving_digits +Handwritten digits", out, re.M)
    status, out, _ = stjax("datasets", "moving_digits")
    assert status == 0 and "num_digits: int = 2" in out


def test_models(stjax):
    status, out, _ = stjax("models")
    assert status == 0
    assert re.search(r"^tau +Predicts the next frames.*configs\]$", out, re.M)
    status, out, _ = stjax("models", "simvp")
    assert status == 0 and "hid_s: int = " in out
    # measured on the official code
    assert re.search(r"^  prediction/simvp +46,769,665 parameters$", out, re.M)


def test_unknown_names(wrong):
    assert wrong("trian") == "unknown command 'trian'; did you mean 'train'?"
    assert "did you mean 'tau'" in wrong("models", "taau")
    assert "did you mean 'moving_digits'" in wrong("datasets", "moving_digit")


# --- flags and configs


def test_flags(wrong):
    assert "unknown flag '--workdr'; did you mean '--workdir'?" in wrong(
        "predict", "--workdr=x"
    )
    assert wrong("predict", "--input=x").startswith("--workdir is missing")
    assert "'few'" in wrong("predict", "--workdir=x", "--input=y", "--frames=few")
    assert "unexpected argument 'x'" in wrong("evaluate", "x", "--workdir=y")
    assert "Missing value" in wrong("evaluate", "--workdir")
    assert "expected best, last or a number" in wrong(
        "evaluate", "--workdir=x", "--step=first"
    )


CONFIG_ERRORS = {
    "--config.model.hid_ss=3": "'model.hid_ss'; did you mean 'model.hid_s'?",
    "--config.data.batchh=3": "'data.batchh'; did you mean 'data.batch'?",
    "--config.data.num_digit=3": "did you mean 'data.num_digits'?",
    "--config.trian.steps=3": "'trian'; did you mean 'train'?",
    "--config.seeed=3": "'seeed'; did you mean 'seed'?",
    "--config.model.hid_s=wide": "'wide'",
    "--config.data.batch.x=3": "data.batch has no fields",
    "--config.train=3": "'train' is a section",
    "--config.dtype=float15": "'float15'",
    "--config.data.path=/nowhere/mnist.npz": "/nowhere/mnist.npz",
    "--config.optim.warmpu=3": "'warmpu'",
    "--config.loss.name=msee": "'msee'",
}


@pytest.mark.parametrize("flag,message", CONFIG_ERRORS.items())
def test_config_errors(wrong, tmp_path, flag, message):
    assert message in wrong("train", DIGITS, f"--workdir={tmp_path}", flag)
    assert not list(tmp_path.iterdir())


def test_missing_configs(wrong, tmp_path):
    line = wrong("train", f"--workdir={tmp_path}")
    assert line.startswith("--config is missing") and "tau/moving_digits" in line
    assert "no config file" in wrong("train", f"--config={tmp_path}/mine.py")
    assert "did you mean 'tau/moving_digits'" in wrong(
        "train", "--config=moving_digits"
    )
    assert "miniature" in wrong("train", "--config=tau/moving_digits:minature")


def _overridden(*arguments):
    def command(*, config: flagging.Config):
        """Nothing."""

    return flagging.parse(command, [DIGITS, *arguments])[1]["config"]


def test_overrides_of_every_kind_of_field():
    config = _overridden(
        "--config.seed=7",
        "--config.optim.lr",
        "1e-4",
        "--config.optim.clip=1",  # a placeholder
        "--config.data.path=123",  # a placeholder that stays text
        "--config.model.spatio_kernel_enc=5",  # a field that the config does not list
        "--config.data.step=0.2",
        "--config.optim.beta2=0.9",
        "--config.mesh.data=-1",
    )
    assert config.seed == 7 and config.optim.lr == 1e-4
    assert config.optim.clip == 1.0 and config.data.path == "123"
    assert config.model.spatio_kernel_enc == 5 and config.data.step == 0.2
    assert config.optim.beta2 == 0.9 and config.mesh.data == -1
    assert config.is_locked


def test_overrides_of_a_config_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from stjax.config import base_config\n"
        "def get_config(variant='a'):\n"
        "    config = base_config()\n"
        "    with config.unlocked():\n"
        "        config.name = variant\n"
        "        config.model = {'name': 'tau', 'list': [1], 'yes': False}\n"
        "        config.model.tuple = (1, 2)\n"
        "        config.data.source = 'moving_digits'\n"
        "        config.train.steps = 1\n"
        "    return config\n"
    )

    def command(*, config: flagging.Config):
        """Nothing."""

    def load(*arguments):
        return flagging.parse(command, arguments)[1]["config"]

    file = f"{tmp_path}/mine.py"
    config = load("--config", f"{file}:b", "--config.model.list=[3,4]")
    assert config.name == "b" and config.model.list == [3, 4]
    assert load(f"--config={file}", "--config.model.yes").model.yes is True
    assert load(f"--config={file}", "--noconfig.model.yes").model.yes is False
    config = load(f"--config={file}", "--config.model.tuple=5,6,7")
    assert config.name == "a" and config.model.tuple == (5, 6, 7)
    with pytest.raises(UserError, match="steps is 0"):
        load(f"--config={file}", "--config.train.steps=0")


# --- what commands do


def test_train_leaves_results_and_a_picture(workdir):
    results = json.loads((workdir / "results.json").read_text())
    assert results["steps"] == 2
    assert (workdir / "pictures/test.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate(stjax, workdir, tmp_path):
    status, out, _ = stjax(
        "evaluate", f"--workdir={workdir}", f"--output={tmp_path}/report.json"
    )
    assert status == 0 and "test split: 3 clips" in out
    assert re.search(r"^last_frame +[\d.]+", out, re.M)
    report = json.loads((tmp_path / "report.json").read_text())
    results = json.loads((workdir / "results.json").read_text())
    assert report["metrics"] == pytest.approx(results["metrics"], rel=1e-5)


def test_predict_with_truth(stjax, workdir, tmp_path):
    values = clip(4)
    status, out, _ = stjax(
        "predict", f"--workdir={workdir}", save(tmp_path / "c.npy", values),
        f"--output={tmp_path}/out",
    )  # fmt: skip
    assert status == 0
    prediction = np.load(tmp_path / "out/prediction.npy")
    assert prediction.shape == (1, 2, 16, 16, 1) and prediction.dtype == np.float32
    error = np.mean((prediction[0, ..., 0] / 255 - values[2:] / 255) ** 2)
    said = re.search(r"MSE over the 2 frames with truth: ([\d.e-]+)", out)
    assert float(said[1]) == pytest.approx(error, rel=1e-4)
    assert (tmp_path / "out/prediction.gif").read_bytes().startswith(b"GIF")
    # the same through the library, and in floats
    from stjax import load

    predictor = load(workdir)
    np.testing.assert_array_equal(predictor(values[:2]), prediction)
    floats = predictor(values[:2].astype(np.float32) / 255)
    np.testing.assert_allclose(floats, prediction / 255, atol=1e-5)


def test_predict_a_video_further_than_trained(stjax, workdir, tmp_path):
    from stjax import media

    frames = clip(3, 32, 48, 3)
    media.write_gif(tmp_path / "c.gif", frames)
    status, out, _ = stjax(
        "predict", f"--workdir={workdir}", f"--input={tmp_path}/c.gif", "--frames=5"
    )
    assert status == 0
    assert "cropped to the centre 32x32, resized to 16x16, made grey" in out
    assert np.load(workdir / "pictures/c/prediction.npy").shape == (1, 5, 16, 16, 1)
    assert "MSE over the 1 frames" in out


@pytest.mark.parametrize(
    "values,message",
    [
        (clip(4, 17, 16), "17"),
        (clip(4, 16, 16, 3), "3 channels"),
        (clip(1), "has 1 frames, the model needs 2"),
        (clip(4)[:, 0, 0], "expected [T, H, W, 1] or [T, H, W]"),
        (clip(4) * 1.0, "divide by 255"),
        (clip(4) * np.nan, "NaN"),
        (clip(0), "no frames"),
    ],
    ids=["odd side", "channels", "short", "rank", "range", "NaN", "empty"],
)
def test_clips_that_do_not_fit(wrong, workdir, tmp_path, values, message):
    line = wrong("predict", f"--workdir={workdir}", save(tmp_path / "c.npy", values))
    assert message in line


@pytest.mark.parametrize("suffix", ["npy", "gif", "mp4"])
def test_empty_and_truncated_clips(wrong, workdir, tmp_path, suffix):
    from stjax import media

    path = tmp_path / f"c.{suffix}"
    predict = ("predict", f"--workdir={workdir}", f"--input={path}")
    assert "no such file" in wrong(*predict)
    path.write_bytes(b"")
    assert "the file is empty" in wrong(*predict)
    getattr(media, f"write_{suffix}")(path, clip(6, 32, 32, 3))
    path.write_bytes(path.read_bytes()[:-300])
    assert "truncated or corrupt" in wrong(*predict)


def test_a_file_where_a_folder_should_be(wrong, workdir, tmp_path):
    (tmp_path / "file").write_text("")
    line = wrong("train", DIGITS, f"--workdir={tmp_path}/file")
    assert str(tmp_path / "file") in line
    values = save(tmp_path / "c.npy", clip())
    output = f"--output={tmp_path}/file"
    assert "file" in wrong("predict", f"--workdir={workdir}", values, output)


def test_workdirs_that_cannot_be_loaded(wrong, workdir, tmp_path):
    input = save(tmp_path / "c.npy", clip())
    assert "has no config.json" in wrong("predict", f"--workdir={tmp_path}", input)
    assert "no checkpoint of step 7" in wrong(
        "predict", f"--workdir={workdir}", input, "--step=7"
    )
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    described = json.loads((copy / "config.json").read_text())
    described["config"]["model"]["hid_s"] = 6
    (copy / "config.json").write_text(json.dumps(described))
    line = wrong("predict", f"--workdir={copy}", input)
    assert "is of another model" in line
    assert "is of another model" in wrong("evaluate", f"--workdir={copy}")
    shutil.rmtree(copy / "checkpoints")
    assert "has no checkpoint" in wrong("predict", f"--workdir={copy}", input)
    assert "has no checkpoint" in wrong("evaluate", f"--workdir={copy}")


def test_another_config_in_the_same_workdir(wrong, workdir):
    line = wrong("train", DIGITS, f"--workdir={workdir}", "--config.optim.lr=1")
    assert "optim.lr" in line and "another config" in line


def test_doctor(stjax, monkeypatch):
    status, out, _ = stjax("doctor")
    assert status == 0 and "all checks passed" in out and "FAILED" not in out

    def broken():
        """a broken thing:"""
        raise OSError("no luck")

    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    monkeypatch.setitem(doctor.EXTRAS, "mars", ("no_such_module", "flying"))
    status, out, _ = stjax("doctor")
    assert status == 1 and "FAILED   a broken thing: OSError: no luck" in out
    assert "pip install 'stjax[mars]'" in out


def test_interrupt_and_unexpected_errors(stjax, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    def bug():
        raise RuntimeError("a bug")

    monkeypatch.setattr(doctor, "doctor", interrupted)
    assert stjax("doctor") == (130, "", "stjax: interrupted\n")
    monkeypatch.setattr(doctor, "doctor", bug)
    status, _, err = stjax("doctor")
    assert status == 1 and "Traceback" in err and "a bug" in err


def test_datasets_build(stjax, wrong, tmp_path):
    np.save(tmp_path / "film.npy", np.zeros((30, 8, 8), np.uint8))
    command = [
        "datasets",
        "build",
        "files",
        f"--path={tmp_path / 'film.npy'}",
        f"--output={tmp_path / 'shards'}",
        "--fields=t_in=2,t_out=1,split_by=time,fractions=(0.8,0.1,0.1)",
    ]
    status, out, _ = stjax(*command)
    assert status == 0
    from stjax.data.sources import open_source

    source = open_source("tfds", "train", path=out.split()[-1])
    clip = source.clip(0, np.random.default_rng(0))
    assert clip["input"].shape == (2, 8, 8, 1) and clip["target"].shape == (1, 8, 8, 1)
    assert "exists already" in wrong(*command)
    assert "NAME=VALUE" in wrong(*command[:-1], "--fields=t_in")
