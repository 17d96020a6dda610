"""Moving FashionMNIST, MNIST-CIFAR and noisy Moving MNIST on miniature files."""

import gzip
import pickle

import numpy as np
import pytest

from stjax.data.sources import open_source
from stjax.data.sources.mnist_variants import shaken
from stjax.errors import UserError

RNG = np.random.default_rng(0)


def write_idx(path, pictures):
    head = np.array([0x803, *pictures.shape], ">u4").tobytes()
    path.write_bytes(gzip.compress(head + pictures.tobytes()))


@pytest.fixture
def folder(tmp_path):
    """30 pictures whose brightness tells which one it is; 3 test clips."""
    pictures = np.zeros((30, 28, 28), np.uint8)
    pictures[:, 4:24, 4:24] = 101 + np.arange(30)[:, None, None]
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", pictures)
    test = RNG.integers(0, 256, (20, 3, 64, 64), np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", test)
    np.save(tmp_path / "fmnist_test_seq.npy", test)
    colours = RNG.integers(0, 256, (20, 3, 64, 64, 3), np.uint8)
    np.save(tmp_path / "mnist_cifar_test_seq.npy", colours)
    batches = tmp_path / "cifar10" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    for k, name in enumerate(names):
        data = np.full((5, 3, 32, 32), 10 + k, np.uint8)
        data[:, 0] = 5 * k + np.arange(5)[:, None, None]  # the red tells which
        batch = {b"data": data.reshape(5, -1), b"labels": [0] * 5}
        (batches / name).write_bytes(pickle.dumps(batch, protocol=2))
    return tmp_path


FIELDS = {"holdout": 10, "train_clips": 7, "validation_clips": 4}


def test_fashion(folder):
    train = open_source("moving_fmnist", "train", path=folder, **FIELDS)
    validation = open_source("moving_fmnist", "validation", path=folder, **FIELDS)
    test = open_source("moving_fmnist", "test", path=folder, **FIELDS)
    assert (len(train), len(validation), len(test)) == (7, 4, 3)
    seen = {s: set() for s in (train, validation)}
    for source, pictures in seen.items():
        for k in range(len(source)):
            clip = source.clip(k, RNG)
            assert clip["input"].shape == (10, 64, 64, 1)
            pictures |= set(np.unique(clip["input"])) - {0}
    assert max(seen[train]) <= 120 < min(seen[validation])
    one, two = (validation.clip(2, np.random.default_rng(s)) for s in (1, 2))
    np.testing.assert_array_equal(one["target"], two["target"])
    data = np.load(folder / "fmnist_test_seq.npy")
    clip = pickle.loads(pickle.dumps(test)).clip(1, RNG)
    np.testing.assert_array_equal(clip["target"][..., 0], data[10:, 1])


def test_cifar_background_stays_and_digits_are_binary(folder):
    train = open_source("moving_mnist_cifar", "train", path=folder, **FIELDS)
    clip = train.clip(0, RNG)
    assert clip["input"].shape == (10, 64, 64, 3) == train.spec.input_shape
    video = np.concatenate([clip["input"], clip["target"]])
    red, green, blue = np.moveaxis(video, -1, 0)
    digit = red == 255
    assert (green[digit] == 255).all() and digit.any()
    picture = int(red[~digit][0])
    assert picture < 20  # the last 10 of the 30 pictures are held out
    assert (red[~digit] == picture).all()
    assert (blue[~digit] == 10 + picture // 5).all()
    test = open_source("moving_mnist_cifar", "test", path=folder)
    data = np.load(folder / "mnist_cifar_test_seq.npy")
    np.testing.assert_array_equal(test.clip(2, RNG)["input"], data[:10, 2])


def test_cifar_files_that_would_run_code_do_not(folder):
    evil = folder / "cifar10" / "cifar-10-batches-py" / "test_batch"
    evil.write_bytes(b"cposix\nsystem\n(S'touch evil'\ntR.")
    with pytest.raises(UserError, match=r"posix\.system"):
        open_source("moving_mnist_cifar", "train", path=folder, **FIELDS)


def test_missing_and_perceptual_noise_touch_only_the_inputs(folder):
    def pairs(noise):
        noisy = open_source(
            "noisy_moving_mnist", path=folder, noise=noise, holdout=10, train_clips=400
        )
        clean = open_source("moving_mnist", path=folder, holdout=10, train_clips=400)
        for k in range(100):
            rngs = np.random.default_rng(k), np.random.default_rng(k)
            yield noisy.clip(k, rngs[0]), clean.clip(k, rngs[1])

    black = 0
    for noisy, clean in pairs("missing"):
        np.testing.assert_array_equal(noisy["target"], clean["target"])
        same = (noisy["input"] == clean["input"]).all((1, 2, 3))
        gone = (noisy["input"] == 0).all((1, 2, 3))
        assert (same | gone).all()
        black += gone.sum()
    assert abs(black / 1000 - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 1000)
    for noisy, clean in pairs("perceptual"):
        np.testing.assert_array_equal(noisy["target"], clean["target"])
        for a, b in zip(noisy["input"], clean["input"], strict=True):
            rows, cols = np.nonzero((a != b)[..., 0])
            if len(rows):
                assert np.ptp(rows) < 24 and np.ptp(cols) < 24
                assert (a[rows, cols] == 0).all()


def test_dynamic_noise(folder):
    source = open_source("noisy_moving_mnist", path=folder, noise="dynamic", holdout=10)
    clip = source.clip(0, RNG)
    assert clip["input"].shape == clip["target"].shape == (10, 64, 64, 1)
    steps = []
    for k in range(400):
        path = shaken(np.random.default_rng(k), 4, 3)
        assert path.min() >= 0 and path.max() <= 1
        if ((path > 0) & (path < 1)).all():  # no wall: the velocity itself
            step = np.diff(path, axis=0)
            steps.append(step)
            # The last three frames are targets: steady, at 0.1 per frame.
            np.testing.assert_allclose(np.hypot(*step[3:].T), 0.1, rtol=1e-9)
            np.testing.assert_allclose(step[3:], step[[5, 5, 5]], atol=1e-12)
    noise = np.concatenate([(s[:3] - s[5]).ravel() for s in steps]) / 0.1
    assert len(noise) > 300
    assert abs(noise.std() - 0.2) < 4 * 0.2 / np.sqrt(2 * len(noise))


def test_wrong_noise(folder):
    with pytest.raises(UserError, match="perceptual"):
        open_source("noisy_moving_mnist", path=folder, noise="perceptive")
