"""RandAugment: operations with known results, levels, and how they are drawn."""

from collections import Counter

import numpy as np
import pytest

from stjax.data.rand_augment import OPERATIONS, RandAugment
from stjax.errors import UserError

UNIFORMER = "rand-m7-n4-mstd0.5-inc1"


def noise(t=2, height=20, width=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (t, height, width, 3), np.uint8)


def apply(frames, name, argument, **fields):
    return RandAugment("rand", **fields).apply(frames, [(name, argument)])


def levels(spec, draws=3000, seed=0):
    """Name → arguments drawn."""
    augment, rng = RandAugment(spec), np.random.default_rng(seed)
    found = {name: [] for name in OPERATIONS}
    for _ in range(draws):
        for name, argument in augment.draw(rng):
            found[name].append(argument)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("bits", [0, 1, 4, 8])
def test_posterize_keeps_the_highest_bits(bits):
    frames = noise()
    step = 2 ** (8 - bits)
    want = frames.astype(int) // step * step
    np.testing.assert_array_equal(apply(frames, "posterize", bits), want)


def test_solarize_and_solarize_add():
    frames = noise()
    want = np.where(frames < 100, frames, 255 - frames)
    np.testing.assert_array_equal(apply(frames, "solarize", 100), want)
    np.testing.assert_array_equal(apply(frames, "solarize", 256), frames)
    x = frames.astype(int)
    want = np.where(x < 128, np.minimum(x + 77, 255), x)
    np.testing.assert_array_equal(apply(frames, "solarize_add", 77), want)
    np.testing.assert_array_equal(apply(frames, "invert", 0), 255 - frames)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_translation_by_whole_pixels(interpolation):
    frames = noise()
    got = apply(frames, "translate_x", 0.25, interpolation=interpolation)
    np.testing.assert_array_equal(got[:, :, :30], frames[:, :, 10:])
    np.testing.assert_array_equal(got[:, :, 30:], 128)
    got = apply(frames, "translate_y", -0.25, interpolation=interpolation)
    np.testing.assert_array_equal(got[:, 5:], frames[:, :15])
    np.testing.assert_array_equal(got[:, :5], 128)


def test_fill_is_a_colour():
    got = apply(noise(), "translate_x", 0.25, fill=(1, 2, 3))
    assert (got[:, :, 30:] == [1, 2, 3]).all()


def test_shear_moves_rows_by_their_height():
    frames = np.zeros((1, 20, 40, 3), np.uint8)
    frames[:, :, 20] = 200
    got = apply(frames, "shear_x", 0.5, interpolation="bilinear")
    # Row y shows column x + y / 2: the line stands at 20 - (y + 1/2) / 2.
    for y in range(0, 20, 3):
        row = got[0, y, :, 0] * (got[0, y, :, 0] != 128)
        centre = (np.arange(40) + 0.5) @ row / row.sum()
        assert centre == pytest.approx(20.5 - (y + 0.5) / 2, abs=0.02)
    sheared = apply(frames.transpose(0, 2, 1, 3), "shear_y", 0.5)
    same = apply(frames, "shear_x", 0.5).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(sheared, same)


def test_rotation_by_right_angles_turns_a_square():
    square = noise(2, 16, 16)
    got = apply(square, "rotate", 90)
    np.testing.assert_array_equal(got, np.rot90(square, axes=(1, 2)))


@pytest.mark.parametrize("factor", [0.37, 1.6])
def test_enhancements(factor):
    frames = noise()
    x = frames.astype(float)
    got = apply(frames, "brightness", factor)
    np.testing.assert_allclose(got, np.clip(factor * x, 0, 255), atol=1)
    luma = (x @ [0.299, 0.587, 0.114])[..., None]
    got = apply(frames, "color", factor)
    want = np.clip(luma + factor * (x - luma), 0, 255)
    np.testing.assert_allclose(got, want, atol=1.7)
    mean = luma.mean((1, 2, 3), keepdims=True)  # of each frame
    got = apply(frames, "contrast", factor)
    want = np.clip(mean + factor * (x - mean), 0, 255)
    np.testing.assert_allclose(got, want, atol=1.7)


def test_auto_contrast_and_equalize_use_the_whole_range():
    frames = 50 + noise() // 4
    got = apply(frames, "auto_contrast", 0)
    low, high = frames.min((1, 2), keepdims=True), frames.max((1, 2), keepdims=True)
    want = (frames.astype(float) - low) * 255 / (high - low)
    np.testing.assert_allclose(got, want, atol=1)
    got = apply(frames, "equalize", 0)
    assert got.min() < 5 and got.max() > 250


def test_no_strength_changes_nothing():
    frames = noise()
    drawn = levels("rand-m0-n4-inc1", 300)
    whatever = {"auto_contrast", "equalize", "invert", "posterize"}  # have no zero
    for name in OPERATIONS.keys() - whatever:
        assert len(set(np.abs(drawn[name]))) == 1, name
        np.testing.assert_array_equal(
            apply(frames, name, drawn[name][0]), frames, err_msg=name
        )
    assert set(drawn["posterize"]) == {4}


def test_levels_of_magnitude_seven():
    drawn = levels("rand-m7-n4-inc1")
    for name, size in {
        "rotate": 21,
        "shear_x": 0.21,
        "shear_y": 0.21,
        "translate_x": 0.315,
        "translate_y": 0.315,
    }.items():
        np.testing.assert_allclose(np.unique(drawn[name]), [-size, size], rtol=1e-6)
        assert 0.4 < np.mean(drawn[name] > 0) < 0.6
    for name in ("color", "contrast", "brightness", "sharpness"):
        np.testing.assert_allclose(np.unique(drawn[name]), [0.37, 1.63], rtol=1e-6)
    assert set(drawn["posterize"]) == {4 - 2}
    assert set(drawn["solarize"]) == {256 - 179}
    assert set(drawn["solarize_add"]) == {77}


def test_levels_that_fall_without_inc():
    for spec in ("rand-m7-n4", "rand-m7-n4-inc0"):
        drawn = levels(spec, 500)
        np.testing.assert_allclose(np.unique(drawn["color"]), [1.36], rtol=1e-6)
        assert set(drawn["posterize"]) == {2} and set(drawn["solarize"]) == {179}
        np.testing.assert_allclose(np.unique(drawn["rotate"]), [-21, 21], rtol=1e-6)


def test_the_level_varies_and_stays_in_range():
    angles = np.abs(levels(UNIFORMER)["rotate"]) / 3
    assert angles.mean() == pytest.approx(7, abs=0.1)
    assert angles.std() == pytest.approx(0.5, abs=0.05)
    high = np.abs(levels("rand-m10-n4-mstd2-inc1")["rotate"]) / 3
    assert high.max() == 10 and np.mean(high == 10) == pytest.approx(0.5, abs=0.06)


def test_operations_are_drawn_evenly_and_applied_half_the_time():
    augment, rng = RandAugment(UNIFORMER), np.random.default_rng(0)
    counts, lengths = Counter(), Counter()
    for _ in range(6000):
        drawn = augment.draw(rng)
        lengths[len(drawn)] += 1
        counts.update(name for name, _ in drawn)
    assert len(counts) == 15
    # 6000 x 4 x 1/2 / 15 each
    assert all(abs(count - 800) < 110 for count in counts.values()), counts
    # of 4, each with 1/2: binomial
    share = [lengths[k] / 6000 for k in range(5)]
    np.testing.assert_allclose(share, np.array([1, 4, 6, 4, 1]) / 16, atol=0.025)


def test_weights_choose_without_replacement():
    augment, rng = RandAugment("rand-m9-n3-w0"), np.random.default_rng(0)
    counts = Counter()
    for _ in range(2000):
        names = [name for name, _ in augment.draw(rng)]
        assert len(set(names)) == len(names)
        counts.update(names)
    assert counts["invert"] == counts["posterize"] == 0
    assert counts["rotate"] > counts["shear_x"] > counts["translate_x"]
    assert counts["translate_x"] > counts["sharpness"] > counts["contrast"]


def test_all_frames_of_a_clip_alike_and_repeatable():
    clip = np.repeat(noise(1, 32, 32), 3, 0)
    augment = RandAugment(UNIFORMER)
    seen = set()
    for seed in range(30):
        out = augment(clip, np.random.default_rng(seed))
        assert out.shape == clip.shape and out.dtype == np.uint8
        np.testing.assert_array_equal(out[0], out[1])
        np.testing.assert_array_equal(out[0], out[2])
        np.testing.assert_array_equal(out, augment(clip, np.random.default_rng(seed)))
        seen.add(out.tobytes())
    assert len(seen) > 20


@pytest.mark.parametrize("spec", ["rand-m7-x3", "rand-m7-n", "auto-m7", "rand-m11"])
def test_a_text_that_means_nothing(spec):
    with pytest.raises(UserError, match="rand_augment="):
        RandAugment(spec)
    with pytest.raises(UserError, match="did you mean 'bicubic'"):
        RandAugment("rand", "cubic")
