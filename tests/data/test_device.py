"""Moving digits made on the device: the law of the CPU's generator, and training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.config import difference, load_config
from stjax.data import device, moving_digits
from stjax.data.sources import open_source
from stjax.errors import UserError
from stjax.sharding.mesh import make_mesh, put_batch
from stjax.training import inputs

FRAMES, CANVAS = 20, np.array([36, 36])


def starts(clips):
    rng = np.random.default_rng(0)
    theta = 2 * np.pi * rng.random(clips)
    velocity = 0.1 * np.stack([np.sin(theta), np.cos(theta)], -1)
    return rng.random((clips, 2)), velocity


def test_paths_are_those_of_the_cpu():
    start, velocity = starts(200)
    expected = np.array(
        [
            [moving_digits.bounce(p, v, FRAMES) for p, v in zip(*pair, strict=True)]
            for pair in zip(start.tolist(), velocity.tolist(), strict=True)
        ]
    )
    got = device.bounce(jnp.float32(start), jnp.float32(velocity), FRAMES)
    np.testing.assert_allclose(got, expected.transpose(2, 0, 1), atol=2e-6)
    assert ((expected == 0) | (expected == 1)).any()  # walls were reached


def test_pictures_are_those_of_the_cpu():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (3, 2, 7, 5), np.uint8)
    corners = rng.integers(0, (14, 12), (4, 3, 2, 2))  # may touch the last row
    got = jax.jit(device.draw, static_argnums=(2, 3))(images, corners, 20, 16)
    for b in range(3):
        paths = corners[:, b].transpose(1, 0, 2)
        expected = moving_digits.draw(images[b], paths, 20, 16)
        np.testing.assert_array_equal(got[b], expected)


def located(video):
    """Corners of a single digit with one bright pixel, [clips, frames, 2]."""
    flat = np.asarray(video)[..., 0].reshape(*video.shape[:2], -1)
    assert (flat.astype(int).sum(-1) == 255).all()  # inside each frame, drawn once
    return np.stack(np.unravel_index(flat.argmax(-1), video.shape[2:4]), -1)


def test_the_law_is_that_of_the_cpu():
    """Where digits are at first and later, and how far they go: same quantiles."""
    clips, digit = 1500, jnp.full((1, 1, 1), 255, jnp.uint8)
    fields = {"clips": clips, "num_digits": 1, "height": 37, "width": 37}
    made = jax.jit(lambda key: device.moving_digits(key, digit, **fields))
    found = located(made(jax.random.key(3)))
    rng = np.random.default_rng(3)
    real = np.stack(
        [moving_digits.trajectories(rng, 1, FRAMES, (36, 36))[0] for _ in range(clips)]
    )
    assert found.min() == 0 and found.max() == 36
    for what in (lambda c: c[:, 0], lambda c: c[:, -1], lambda c: c[:, 9] - c[:, 0]):
        a, b = what(found), what(real)
        for axis in range(2):  # Kolmogorov-Smirnov, at 1e-4
            values = np.arange(-36, 37)
            cdf = [np.searchsorted(np.sort(x[:, axis]), values) for x in (a, b)]
            assert np.abs(cdf[0] - cdf[1]).max() / clips < 2.2 * (2 / clips) ** 0.5
    # Between walls a step is a tenth of the canvas, whatever its direction.
    inside = ((found > 0) & (found < 36)).all(-1)
    moved = np.linalg.norm(np.diff(found, axis=1), axis=-1)
    assert moved[inside[:, 1:] & inside[:, :-1]] == pytest.approx(3.6, abs=1.42)


def test_digits_are_chosen_alike_and_overlap_by_the_maximum():
    digits = jnp.array([10, 90, 200], jnp.uint8)[:, None, None] * jnp.ones(
        (1, 4, 4), jnp.uint8
    )
    video = device.moving_digits(
        jax.random.key(0), digits, 600, frames=1, height=4, width=4
    )
    values, counts = np.unique(np.asarray(video[:, 0, 0, 0, 0]), return_counts=True)
    assert values.tolist() == [10, 90, 200]  # of two: both, at least one, any
    np.testing.assert_allclose(counts / 600, [1 / 9, 3 / 9, 5 / 9], atol=0.07)


def config_on(backend="device", **fields):
    config = load_config("tau/moving_digits:miniature")
    config.data.backend = backend
    config.update_from_flattened_dict(fields)
    return config


def some(config, mesh, start, count):
    dataset = inputs.make_dataset(config, inputs.open_split(config, "train"), True)
    with jax.set_mesh(mesh), inputs.batches(config, dataset, start) as batches:
        return [put_batch(mesh, next(batches)) for _ in range(count)]


def test_batches_follow_from_seed_and_step_on_any_mesh():
    config = config_on(**{"data.batch": 4, "data.nan": "mask"})
    one = some(config, make_mesh(devices=jax.devices()[:1]), 0, 3)
    four = some(config, make_mesh(space=2, devices=jax.devices()[:4]), 2, 1)[0]
    for name, array in one[2].items():
        np.testing.assert_array_equal(array, four[name])
    assert (one[0]["input"] != one[1]["input"]).any()
    assert four["input"].sharding.shard_shape(four["input"].shape) == (2, 2, 8, 16, 1)
    config.seed = 43
    other = some(config, make_mesh(devices=jax.devices()[:1]), 2, 1)[0]
    assert (np.asarray(other["input"]) != np.asarray(four["input"])).any()
    spec = open_source("moving_digits", size=16, digit_size=7, t_in=2, t_out=2).spec
    for name, (shape, dtype) in spec.arrays.items():
        assert (four[name].shape, four[name].dtype) == ((4, *shape), dtype)


def test_what_cannot_be_made_on_a_device():
    config = config_on(**{"data.augment.flip": "horizontal"})
    with pytest.raises(UserError, match="without data.augment; not of Augment"):
        inputs.make_dataset(config, inputs.open_split(config, "train"), True)
    old = {"data": {"backend": "grain"}}
    assert difference(old, {"data": {"backend": "tf.data"}}) is None
    assert "device" in difference(old, {"data": {"backend": "device"}})
