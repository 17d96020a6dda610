"""The radial spectrum equals pysteps; the power ratio knows single waves."""

import contextlib
import io

import jax
import numpy as np
import pytest

from stjax import metrics
from stjax.errors import UserError
from stjax.metrics import create_metric, summarise


@pytest.mark.parametrize("size", [(16, 16), (15, 15), (12, 20), (21, 16)])
@pytest.mark.parametrize("offset", [0.0, 280.0])
def test_radial_spectrum_equals_pysteps(size, offset):
    pytest.importorskip("pysteps")
    with contextlib.redirect_stdout(io.StringIO()):
        from pysteps.utils.spectral import rapsd
    frames = np.random.default_rng(0).random((2, 3, *size, 2)).astype(np.float32)
    frames += np.float32(offset)
    got = jax.jit(metrics.radial_spectrum)(frames)
    expected = np.stack(
        [
            rapsd(frames[b, t, ..., c].astype(np.float64), fft_method=np.fft)
            for b in range(2)
            for t in range(3)
            for c in range(2)
        ]
    ).reshape(2, 3, 2, -1)
    np.testing.assert_allclose(got, np.moveaxis(expected, -2, -1), rtol=1e-4)


def test_masked_cells_hold_the_mean():
    frames = np.random.default_rng(0).random((1, 2, 16, 16, 1)).astype(np.float32)
    valid = np.random.default_rng(1).random(frames.shape) > 0.2
    filled = frames.copy()
    for frame, keep in zip(filled[0], valid[0], strict=True):
        frame[~keep] = frame[keep].mean()
    got = metrics.radial_spectrum(np.where(valid, frames, np.nan), valid)
    np.testing.assert_allclose(got, metrics.radial_spectrum(filled), rtol=1e-4)


def waves(amplitude_long, amplitude_short):
    y, x = np.mgrid[:32, :32]
    field = amplitude_long * np.sin(2 * np.pi * x / 16)
    field = field + amplitude_short * np.cos(2 * np.pi * y / 4) + 0.5
    return field[None, None, ..., None].astype(np.float32)


def test_power_ratio_of_single_waves():
    target, blurred = waves(1.0, 0.8), waves(1.0, 0.2)
    metric = create_metric("power_ratio")
    got = summarise(*metric.fn(blurred, target), metric).value
    np.testing.assert_allclose(got, (0.2 / 0.8) ** 2, rtol=1e-5)
    got = summarise(*metric.fn(waves(0.1, 0.8), target), metric).value
    np.testing.assert_allclose(got, 1, rtol=1e-5)
    metric = create_metric("power_ratio:wavelength=20")
    got = summarise(*metric.fn(blurred, target), metric).value
    np.testing.assert_allclose(got, (1 + 0.2**2) / (1 + 0.8**2), rtol=1e-5)
    with pytest.raises(UserError, match="2 or more"):
        metrics.power_ratio(target, target, wavelength=1)
