import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from stjax.config import load_config
from stjax.data.base import ClipSpec
from stjax.evaluation.prediction import Evaluator
from stjax.sharding.mesh import make_mesh
from stjax.training.inputs import length, mean_target_frame


class Half(nn.Module):
    """Predicts half of the last frame."""

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        return 0.5 * jnp.repeat(x[:, -1:], frames, 1)


class Arrays:
    def __init__(self, video, spec):
        self.video, self.spec = video, spec

    def __len__(self):
        return len(self.video)

    def clip(self, index, rng):
        t = self.spec.t_in
        return {"input": self.video[index, :t], "target": self.video[index, t:]}


@pytest.fixture
def source():
    """Five clips, so that batches of 2 and 4 are ragged."""
    video = np.random.default_rng(0).integers(0, 256, (5, 5, 8, 9, 1), np.uint8)
    return Arrays(video, ClipSpec(2, 3, 8, 9))


@pytest.mark.parametrize("batch, devices", [(1, 1), (2, 2), (4, 4), (8, 8)])
def test_exact_whatever_the_batch_and_the_devices(source, batch, devices):
    config = load_config("tau/moving_digits:miniature")
    config.data.batch = batch
    mesh = make_mesh(data=devices)
    report = Evaluator(config, Half(), source, mesh, source)({})
    x, y = source.video[:, 1:2] / 255, source.video[:, 2:] / 255
    rows = {
        "last_frame": x,
        "black": np.zeros_like(x),
        "mean_training_frame": y.mean((0, 1)),
    }
    assert report["clips"] == 5 and report["skipped"] == 0
    _check(report["metrics"], report["per_frame"], 0.5 * x, y)
    for name, pred in rows.items():
        curves = report["baselines_per_frame"][name]
        _check(report["baselines"][name], curves, pred, y)


def _check(metrics, curves, pred, y):
    """MSE and MAE: sums over a frame, means over clips and frames (OpenSTL)."""
    squares = np.square(pred - y).sum((2, 3, 4))
    np.testing.assert_allclose(metrics["mse"], squares.mean(), rtol=1e-5)
    np.testing.assert_allclose(curves["mse"], squares.mean(0), rtol=1e-5)
    errors = np.abs(pred - y).sum((2, 3, 4))
    np.testing.assert_allclose(metrics["mae"], errors.mean(), rtol=1e-5)
    decibel = -10 * np.log10(squares / 72)
    np.testing.assert_allclose(metrics["psnr"], decibel.mean(), rtol=1e-5)


def test_mean_frame_leaves_out_what_is_missing():
    video = np.full((3, 2, 2, 2, 1), 7.0, np.float32)
    video[0, 1] = 1.0
    video[:, :, 0, 0] = np.nan
    video[1:, :, 0, 1] = np.nan
    spec = ClipSpec(1, 1, 2, 2, dtype="float32", offset=(1.0,), scale=(2.0,))
    mean = mean_target_frame(Arrays(video, spec))
    expected = (np.mean([1, 7, 7]) - 1) / 2
    np.testing.assert_allclose(mean[..., 0], [[0, 0], [expected, expected]])


def test_length_of_a_run():
    config = load_config("tau/moving_digits:miniature")
    config.data.batch = 16
    config.train.update(steps=None, epochs=200)
    assert length(config, 10_000) == (125_000, 625)  # as OpenSTL counts
    config.train.steps = 7
    assert length(config, 10_000) == (7, 625)
