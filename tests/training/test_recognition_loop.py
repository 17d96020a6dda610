"""Recognition end to end on mp4 files: train, resume, evaluate, predict, bad files."""

import json
import shutil

import jax
import jax.numpy as jnp
import miniatures
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

import stjax
from stjax.cli import main
from stjax.config import base_config
from stjax.errors import UserError
from stjax.training.checkpoint import Checkpoints
from stjax.training.workdir import load_run


class Thumbnail(nn.Module):
    """A hidden layer on the mean colour, with a batch norm."""

    num_classes: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Dense(8, name="body")(x.mean((1, 2, 3)))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Dark and bright videos: path/SPLIT/CLASS/N.mp4."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("validation", 4), ("test", 4)):
        for name, level in (("dark", 30), ("bright", 200)):
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                frames = rng.integers(level, level + 50, (6, 20, 24, 3)).astype(
                    np.uint8
                )
                miniatures.write_video(root / split / name / f"{n}.mp4", frames)
    return root


def config(path, **train):
    found = base_config()
    with found.unlocked():
        found.model = {"name": f"{__name__}:Thumbnail"}
        found.data.update(
            source="labelled_videos",
            path=str(path),
            t_in=2,
            frame_step=2,
            size=16,
            clips=2,
            batch=8,
            repeats=2,
        )
        found.data.augment = ConfigDict({"flip": True})
        found.mix.update(mixup=0.2, cutmix=0.2, erase=0.1)
        found.loss.update(name="cross_entropy", label_smoothing=0.1)
        found.optim.update(name="adamw", lr=0.1, schedule="constant")
        found.train.update(steps=20, eval_every=10, **train)
        found.mesh.data = 1
    return found


def test_from_files_to_classes(videos, tmp_path, capsys):
    workdir = tmp_path / "run"
    results = stjax.train(config(videos, ema=0.9, precise_bn=2), workdir)
    assert results["metrics"]["top1"] == 1.0 and results["clips"] == 8
    assert results["classes"] == ["bright", "dark"]
    assert results["confusion"] == [[4, 0], [0, 4]]
    assert results["baselines"]["most_frequent_class"]["top1"] == 0.5
    assert (workdir / "pictures" / "test.png").exists()

    recogniser = stjax.load(str(workdir))
    clip = str(videos / "test" / "dark" / "0.mp4")
    best = recogniser.top_k(recogniser.video(clip), 1)
    assert best[0][0] == "dark" and best[0][1] > 0.5
    capsys.readouterr()
    output = tmp_path / "out.json"
    argv = ["predict", f"--workdir={workdir}", f"--input={clip}", f"--output={output}"]
    with pytest.raises(SystemExit) as exit:
        main(["stjax", *argv])
    assert exit.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "dark" and lines[1].endswith("%")
    assert json.loads(output.read_text())["dark"] == pytest.approx(best[0][1])

    again = stjax.evaluate(workdir, "validation")
    assert again["metrics"]["top1"] == 1.0


def test_ten_steps_are_five_and_five(videos, tmp_path, monkeypatch):
    found = config(videos, ema=0.9)
    found.train.update(steps=10, eval_every=5)
    stjax.train(found, tmp_path / "whole")

    save = Checkpoints.save

    def save_and_stop(self, state, *metrics):
        save(self, state, *metrics)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", save_and_stop)
        stjax.train(found, tmp_path / "parts")
    stjax.train(found, tmp_path / "parts")
    runs = [load_run(tmp_path / name, "last") for name in ("whole", "parts")]
    assert [run.step for run in runs] == [10, 10]
    jax.tree.map(np.testing.assert_array_equal, *(run.variables for run in runs))


def test_bad_files_are_replaced_named_and_limited(videos, tmp_path, caplog):

    broken = tmp_path / "videos"
    shutil.copytree(videos, broken)
    (broken / "train" / "dark" / "0.mp4").write_bytes(b"this is not a video")
    found = config(broken)
    with pytest.raises(UserError, match="dark/0.mp4"):
        stjax.train(found, tmp_path / "error")
    found.data.bad = "replace"
    found.train.update(steps=4, eval_every=4)
    results = stjax.train(found, tmp_path / "replaced")
    assert "dark/0.mp4" in caplog.text and results["replaced"] >= 1
    for n in range(1, 6):
        (broken / "train" / "dark" / f"{n}.mp4").write_bytes(b"nor is this")
    with pytest.raises(UserError, match="data.bad_share"):
        stjax.train(found, tmp_path / "limited")


def test_fine_tuning_with_another_head_and_a_frozen_body(videos, tmp_path, caplog):
    found = config(videos)
    found.train.update(steps=2, eval_every=2)
    stjax.train(found, tmp_path / "first")
    other = tmp_path / "videos"
    shutil.copytree(videos, other)
    for split in ("train", "validation", "test"):
        shutil.copytree(other / split / "dark", other / split / "grey")
    found.data.path = str(other)
    found.train.init_from = str(tmp_path / "first")
    found.optim.freeze = ("^body/",)
    stjax.train(found, tmp_path / "second")
    first, second = (
        load_run(tmp_path / name).variables for name in ("first", "second")
    )
    jax.tree.map(
        np.testing.assert_array_equal, first["params"]["body"], second["params"]["body"]
    )
    assert second["params"]["head"]["kernel"].shape == (8, 3)


def test_a_short_video_is_told(videos, tmp_path, caplog):
    found = config(videos)
    found.data.t_in = 8
    found.train.steps = 1
    stjax.train(found, tmp_path / "run")
    clip = videos / "test" / "dark" / "0.mp4"
    stjax.load(str(tmp_path / "run")).video(clip)
    assert "has 6 frames, the model takes 8" in caplog.text


def test_another_list_of_classes_does_not_fit(videos, tmp_path):
    found = config(videos)
    found.train.steps = 1
    workdir = tmp_path / "run"
    stjax.train(found, workdir)

    other = tmp_path / "other"
    shutil.copytree(videos, other)
    (other / "test" / "dark").rename(other / "test" / "grey")
    saved = json.loads((workdir / "config.json").read_text())
    saved["config"]["data"]["path"] = str(other)
    (workdir / "config.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match="grey"):
        stjax.evaluate(workdir)
