"""LPIPS equals its formula, restated in PyTorch, with random weights."""

import warnings

import jax
import numpy as np
import pytest

from stjax import metrics
from stjax.errors import UserError
from stjax.metrics import create_metric, read_lpips, summarise

CHANNELS = (3, 64, 192, 384, 256, 256)
LAYERS = (
    ("0", 11, 4, 2),
    ("3", 5, 1, 2),
    ("6", 3, 1, 1),
    ("8", 3, 1, 1),
    ("10", 3, 1, 1),
)


def random_state(seed=0):
    """AlexNet's and the linear weights by their public names, in torch layout."""
    rng = np.random.default_rng(seed)
    state = {}
    for layer, (index, kernel, _, _) in enumerate(LAYERS):
        shape = (CHANNELS[layer + 1], CHANNELS[layer], kernel, kernel)
        conv = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        state[f"features.{index}.weight"] = conv.astype(np.float32)
        bias = 0.1 * rng.standard_normal(shape[0], np.float32)
        state[f"features.{index}.bias"] = bias
        linear = rng.random((1, shape[0], 1, 1), np.float32)
        state[f"lin{layer}.model.1.weight"] = linear
    return state


def lpips_in_torch(pred, target, state):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    tensors = {key: torch.tensor(value).double() for key, value in state.items()}
    shift = torch.tensor([-0.030, -0.088, -0.188]).double().view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).double().view(1, 3, 1, 1)

    def features(frames):
        x = torch.tensor(np.moveaxis(frames.reshape(-1, *frames.shape[2:]), -1, 1))
        x = (x.double() * 255 / 127.5 - 1 - shift) / scale
        for layer, (index, _, stride, padding) in enumerate(LAYERS):
            if layer in (1, 2):
                x = functional.max_pool2d(x, 3, 2)
            weight, bias = (
                tensors[f"features.{index}.{w}"] for w in ("weight", "bias")
            )
            x = torch.relu(functional.conv2d(x, weight, bias, stride, padding))
            yield x

    total = 0
    pairs = zip(features(np.clip(pred, 0, 1)), features(target), strict=True)
    for layer, (ours, theirs) in enumerate(pairs):
        ours, theirs = (
            f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in (ours, theirs)
        )
        linear = tensors[f"lin{layer}.model.1.weight"]
        distance = functional.conv2d((ours - theirs).square(), linear)
        total = total + distance.mean((1, 2, 3))
    return total.numpy().reshape(target.shape[:2])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The trunk and the linear weights, in two files as their projects ship them."""
    folder, state = tmp_path_factory.mktemp("lpips"), random_state()
    trunk = {k: v for k, v in state.items() if k.startswith("features")}
    np.savez(folder / "alexnet.npz", **trunk)
    np.savez(folder / "alex.npz", **{k: v for k, v in state.items() if k not in trunk})
    return folder, state


@pytest.mark.parametrize(("channels", "size"), [(1, (40, 36)), (3, (31, 40))])
def test_equals_the_formula(files, channels, size):
    folder, state = files
    weights = read_lpips(folder / "alexnet.npz", folder / "alex.npz", version=None)
    rng = np.random.default_rng(1)
    target = rng.random((1, 2, *size, channels)).astype(np.float32)
    pred = target + 0.3 * rng.standard_normal(target.shape).astype(np.float32)
    metric = create_metric("lpips", weights=weights)
    numerator, denominator = jax.jit(metric.fn)(pred, target)
    expected = lpips_in_torch(pred, target, state)
    np.testing.assert_allclose(numerator / denominator, expected, rtol=1e-5)
    assert summarise(*metric.fn(target, target), metric).value < 1e-9
    half = np.ones(target.shape, np.uint8)
    half[:, :, size[0] // 2 :] = 0
    numerator, denominator = jax.jit(metric.fn)(
        pred, np.where(half, target, np.nan), half
    )
    black = [np.where(half, frames, 0) for frames in (np.clip(pred, 0, 1), target)]
    expected = lpips_in_torch(*black, state)
    np.testing.assert_allclose(numerator, expected, rtol=1e-5)
    np.testing.assert_allclose(denominator, half.mean((2, 3, 4)), rtol=1e-6)


def test_reads_whole_modules_and_pytorch_files(files, tmp_path):
    torch = pytest.importorskip("torch")
    folder, state = files
    whole = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for layer, (index, *_) in enumerate(LAYERS, 1):
        for kind in ("weight", "bias"):
            value = torch.tensor(state[f"features.{index}.{kind}"])
            whole[f"net.slice{layer}.{index}.{kind}"] = value
    for layer in range(5):
        name = f"lin{layer}.model.1.weight"
        whole[name] = whole[f"lins.{layer}.model.1.weight"] = torch.tensor(state[name])
    torch.save(whole, tmp_path / "lpips.pth")
    got = read_lpips(tmp_path / "lpips.pth", version=None)
    expected = read_lpips(folder / "alexnet.npz", folder / "alex.npz", version=None)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value)


def test_other_than_the_published_weights_are_named(files, tmp_path):
    folder, state = files
    with pytest.warns(UserWarning, match="not the linear weights of LPIPS version 0.1"):
        read_lpips(folder / "alexnet.npz", folder / "alex.npz")
    for layer, total in enumerate((2.3495, 16.143, 39.268, 27.197, 20.317)):
        linear = state[f"lin{layer}.model.1.weight"]
        state = state | {f"lin{layer}.model.1.weight": linear * total / linear.sum()}
    np.savez(tmp_path / "published.npz", **state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_lpips(tmp_path / "published.npz")
        path = str(tmp_path / "published.npz")
        frames = np.random.default_rng(0).random((1, 1, 32, 32, 1), np.float32)
        metric = create_metric(f"lpips:weights={path}")
        assert summarise(*metric.fn(frames, 1 - frames), metric).value > 0


def test_bad_files_and_frames(files, tmp_path):
    folder, _ = files
    with pytest.raises(UserError, match="needs lin0.model.1.weight .* got none"):
        read_lpips(folder / "alexnet.npz")
    with pytest.raises(UserError, match="no such file"):
        read_lpips(tmp_path / "missing.npz")
    frames = np.zeros((1, 1, 64, 64, 2), np.float32)
    with pytest.raises(UserError, match="1 or 3 channels"):
        metrics.lpips(frames, frames, weights={})
    with pytest.raises(UserError, match="at least 31x31"):
        metrics.lpips(frames[:, :, :30], frames[:, :, :30], weights={})
