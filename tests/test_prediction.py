"""The Predictor, with a model small enough to know its answer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.data.base import ClipSpec
from stjax.errors import UserError
from stjax.prediction import Predictor
from stjax.sharding.mesh import make_mesh

PIXELS = ClipSpec(3, 2, 8, 8)
KELVIN = ClipSpec(
    3,
    2,
    4,
    6,
    channels=("t2m", "z"),
    target_channels=(0,),
    dtype="float32",
    offset=(280.0, 5000.0),
    scale=(10.0, 100.0),
    units="K",
)


class Drift(nn.Module):
    """Frame k is the last frame plus k * gain, gain 0.1; sides have to be even."""

    out: int = 1
    t_out: int = 2

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        if x.shape[2] % 2:
            raise UserError(f"side {x.shape[2]} is odd, expected an even one")
        gain = self.param("gain", nn.initializers.constant(0.1), ())
        # A position embedding: only some widths fit.
        bias = self.param("bias", nn.initializers.zeros, (x.shape[3],))
        k = jnp.arange(1, (frames or self.t_out) + 1, dtype=x.dtype)
        last = x[:, -1:, ..., : self.out] + bias[None, None, None, :, None]
        return last + gain * k[None, :, None, None, None]


def make(spec, **options):
    model = Drift(out=len(spec.target_index))
    x = jnp.zeros((1, *spec.input_shape))
    return Predictor(model, model.init(jax.random.key(0), x), spec, **options)


@pytest.fixture(scope="module")
def pixels():
    return make(PIXELS)


@pytest.fixture(scope="module")
def kelvin():
    return make(KELVIN)


def test_units_of_pixels_follow_the_input(pixels):
    raw = np.full((2, 3, 8, 8, 1), 51, np.uint8)
    y = pixels(raw)
    assert isinstance(y, np.ndarray) and y.dtype == np.float32
    assert y.shape == (2, 2, 8, 8, 1)
    np.testing.assert_allclose(y[:, 0], 51 + 25.5, rtol=1e-6)
    np.testing.assert_allclose(y[:, 1], 51 + 51.0, rtol=1e-6)
    # float64 in [0, 1], int64 and bool are the same pictures in other clothes
    np.testing.assert_allclose(pixels(raw / 255.0), y / 255, rtol=1e-6)
    np.testing.assert_array_equal(pixels(raw.astype(int)), y)
    np.testing.assert_allclose(pixels(np.ones((3, 8, 8), bool))[:, 0], 1.1, rtol=1e-6)


def test_raw_units_and_target_channels(kelvin):
    x = np.zeros((3, 4, 6, 2)) + [285.0, 5100.0]
    y = kelvin(x)
    assert y.shape == (1, 2, 4, 6, 1)
    np.testing.assert_allclose(y[0, :, 0, 0, 0], [286.0, 287.0], rtol=1e-6)


def test_ranks_and_kinds_of_arrays(pixels):
    x = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
    expected = pixels(x[None, ..., None])
    np.testing.assert_array_equal(pixels(x), expected)
    np.testing.assert_array_equal(pixels(x[..., None]), expected)
    y = pixels(jnp.asarray(x))
    assert isinstance(y, jax.Array)
    np.testing.assert_array_equal(y, expected)
    half = pixels(jnp.asarray(x, jnp.bfloat16))
    np.testing.assert_allclose(half, expected, atol=0.01)


def test_frames(pixels):
    x = np.zeros((3, 8, 8), np.float32)
    y = pixels(x, frames=5)
    np.testing.assert_allclose(y[0, :, 0, 0, 0], 0.1 * np.arange(1, 6), rtol=1e-6)
    with pytest.raises(UserError, match="frames=0: expected at least 1"):
        pixels(x, frames=0)


def test_a_batch_is_padded_and_cut_without_a_trace():
    predictor = make(PIXELS, largest_batch=4)
    x = np.random.default_rng(1).random((11, 3, 8, 8, 1)).astype(np.float32)
    y = predictor(x)
    assert y.shape == (11, 2, 8, 8, 1)
    np.testing.assert_array_equal(y[9:10], predictor(x[9]))
    predictor(x[:3]), predictor(x[:2])
    # 4 (twice, then 3 padded, then x[:3]), 1, 2: three programs
    assert predictor._predict._cache_size() == 3


def test_a_batch_larger_than_no_power_of_two():
    predictor = make(PIXELS, largest_batch=3)
    x = np.random.default_rng(1).random((7, 3, 8, 8, 1)).astype(np.float32)
    assert predictor(x).shape == (7, 2, 8, 8, 1)


BAD = {
    "rank": (np.zeros((8, 8)), r"has 2 axes; expected \[B, 3, 8, 8, 1\]"),
    "channels": (np.zeros((3, 8, 8, 3)), "3 channels .* takes 1"),
    "one frame short": (np.zeros((2, 8, 8, 1)), "2 frames, the model takes 3"),
    "empty": (np.zeros((0, 3, 8, 8, 1)), "is empty"),
    "odd": (np.zeros((3, 7, 8, 1)), "side 7 is odd, expected an even one"),
    "width": (np.zeros((3, 8, 6, 1)), "8x6 do not fit this model, trained on 8x8"),
    "NaN": (np.full((3, 8, 8, 1), np.nan), "192 values that are NaN"),
    "inf": (np.full((3, 8, 8, 1), np.inf), "NaN or infinite"),
    "float 0..255": (np.full((3, 8, 8, 1), 200.0), "divide by 255 or give uint8"),
    "int": (np.full((3, 8, 8, 1), 300), "300, expected 0 to 255"),
    "text": (np.full((3, 8, 8, 1), "a"), "dtype <U1, expected uint8 or float"),
    "ragged": ([np.zeros((3, 8, 8)), np.zeros((3, 4, 8))], "differ in shape"),
    "complex": (np.zeros((3, 8, 8, 1), complex), "complex128, expected"),
}


@pytest.mark.parametrize("x,message", BAD.values(), ids=BAD)
def test_bad_input_is_one_line(pixels, x, message):
    with pytest.raises(UserError, match=message) as error:
        pixels(x)
    assert "\n" not in str(error.value)


def test_the_batch_of_a_call():
    predictor = make(PIXELS, largest_batch=4)
    x = np.random.default_rng(1).random((5, 3, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(predictor(x, batch=1), predictor(x))
    predictor(x, batch=5)
    # 4 and 1 of the batch of 4, 1 again, and 5
    assert predictor._predict._cache_size() == 3
    with pytest.raises(UserError, match="batch=0: expected at least 1"):
        predictor(x, batch=0)


def test_an_exported_program_has_one_device():
    predictor = make(PIXELS)
    predictor.program = True
    predictor.on(make_mesh(data=1, devices=jax.devices()[:1]))
    with pytest.raises(UserError, match="an exported program runs on one device"):
        predictor.on(make_mesh(data=2, devices=jax.devices()[:2]))


def test_missing_values_may_be_masked():
    predictor = make(KELVIN, nan="mask")
    x = np.zeros((3, 4, 6, 2), np.float32) + np.float32([285, 5100])
    x[-1, 0, 0, 0] = np.nan
    y = predictor(x)[0, 0, :, :, 0]
    assert y[0, 0] == pytest.approx(281)  # the offset stands for what is missing
    np.testing.assert_allclose(y[1:], 286, rtol=1e-6)


def test_describe(pixels, kelvin):
    text = pixels.describe()
    for part in (
        "Drift with 9 parameters",
        "[B, 3, 8, 8, 1] (grey)",
        "uint8 in 0..255",
    ):
        assert part in text
    assert "[B, 2, 4, 6, 1]" in kelvin.describe() and "float in K" in kelvin.describe()
    assert repr(pixels) == "<Predictor: Drift with 9 parameters>"


class TestDataArray:
    @pytest.fixture
    def field(self):
        xr = pytest.importorskip("xarray")
        return xr.DataArray(
            np.zeros((3, 4, 6, 2)) + [285.0, 5100.0],
            dims=("time", "lat", "lon", "variable"),
            coords={
                "time": np.array(
                    ["2020-01-01T00", "2020-01-01T06", "2020-01-01T12"], "M8[ns]"
                ),
                "lat": np.arange(4.0),
                "lon": np.arange(6.0),
                "variable": ["t2m", "z"],
                "height": 2.0,
            },
            name="weather",
            attrs={"units": "K", "source": "a test"},
        )

    def test_coordinates_units_and_lead_time(self, kelvin, field):
        y = kelvin(field, frames=3)
        assert y.dims == ("lead_time", "lat", "lon", "variable")
        assert y.shape == (3, 4, 6, 1) and y.dtype == np.float32
        hours = y.lead_time.values / np.timedelta64(1, "h")
        np.testing.assert_array_equal(hours, [6, 12, 18])
        assert y.valid_time.values[0] == np.datetime64("2020-01-01T18")
        assert list(y["variable"].values) == ["t2m"] and float(y.height) == 2
        np.testing.assert_array_equal(y.lat, field.lat)
        assert y.name == "weather"
        assert y.attrs == {"units": "K", "source": "a test"}
        np.testing.assert_allclose(y.isel(lat=0, lon=0).values[:, 0], [286, 287, 288])

    def test_uneven_times_count_frames(self, kelvin, field):
        times = field.time.values.copy()
        times[0] -= np.timedelta64(1, "h")
        y = kelvin(field.assign_coords(time=times))
        np.testing.assert_array_equal(y.lead_time, [1, 2])
        assert "valid_time" not in y.coords

    def test_batch_and_grey_axes(self, pixels):
        xr = pytest.importorskip("xarray")
        x = xr.DataArray(np.zeros((3, 8, 8), np.uint8), dims=("t", "y", "x"))
        assert pixels(x).dims == ("lead_time", "y", "x")
        x = xr.DataArray(np.zeros((2, 3, 8, 8, 1)), dims=("run", "t", "y", "x", "c"))
        y = pixels(x)
        assert y.dims == ("run", "lead_time", "y", "x", "c")
        assert y.shape == (2, 2, 8, 8, 1)

    def test_other_units_are_refused(self, kelvin, field):
        with pytest.raises(UserError, match="'degC', the model was trained on 'K'"):
            kelvin(field.assign_attrs(units="degC"))
        kelvin(field.assign_attrs(units="kelvin"))
