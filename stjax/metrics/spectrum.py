"""How power spreads over scales: blurred predictions lack it at short wavelengths.

Cells that are not valid are given the mean of the field's valid cells first, so that
they add power at no scale but through their edges.
"""

import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UserError
from stjax.metrics.masking import prepare
from stjax.metrics.registry import Metric, Pair, register

_SPACE = (-3, -2)  # the axes H, W


def radial_spectrum(frames: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Radially averaged power spectrum of each field.

    Entry k is the mean of ``|FFT|² / (H W)`` over the modes whose distance from the
    origin, in whole waves per frame, rounds to k. Equal to pysteps' ``rapsd``.

    Args:
      frames: ``[B, T, H, W, C]``, any unit.
      mask: 1 = valid.

    Returns:
      ``[B, T, K, C]`` float32 with K = ceil(max(H, W) / 2), in the unit squared. On a
      square grid entry k belongs to ``k / H`` waves per pixel.
    """
    frames, _, valid = prepare(frames, frames, mask)
    power = _power(frames, valid)
    height, width = frames.shape[-3:-1]
    down, right = _waves(height)[:, None], _waves(width)[None]
    radius = np.round(np.hypot(down, right)).astype(np.int32).ravel()
    bins = -(-max(height, width) // 2)
    modes = np.bincount(radius, minlength=bins)[:bins]
    rows = jnp.moveaxis(power, -1, -3).reshape(-1, height * width)
    # Modes in the corners, beyond the last bin, are dropped.
    total = jax.ops.segment_sum(rows.T, radius, num_segments=bins)
    spectrum = (total / modes[:, None]).T
    spectrum = spectrum.reshape(*frames.shape[:-3], frames.shape[-1], bins)
    return jnp.moveaxis(spectrum, -1, -2)


def power_ratio(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    wavelength: float = 8.0,
) -> Pair:
    """Power of the prediction at short wavelengths, over that of the truth.

    1 is right, below is blurred, above is too rough; it does not say whether the
    details are in the right place.

    Args:
      pred: ``[B, T, H, W, C]``.
      target: the same shape.
      mask: 1 = valid.
      wavelength: in pixels; all shorter waves count.

    Raises:
      UserError: a wavelength below 2, which no grid can hold.
    """
    if wavelength < 2:
        raise UserError(
            f"power_ratio needs a wavelength of 2 or more, got {wavelength}"
        )
    pred, target, valid = prepare(pred, target, mask)
    height, width = target.shape[-3:-1]
    down, right = _waves(height)[:, None] / height, _waves(width)[None] / width
    short = jnp.asarray(np.hypot(down, right) > 1 / wavelength, jnp.float32)

    def total(frames):
        return jnp.sum(_power(frames, valid) * short[..., None], (-3, -2, -1))

    return total(pred), total(target)


def _power(frames, valid):
    count = jnp.maximum(jnp.sum(valid, _SPACE, keepdims=True), 1)
    mean = jnp.sum(frames * valid, _SPACE, keepdims=True) / count
    # About the mean: a mean far from 0 would drown small waves in float32.
    wave = jnp.fft.fft2((frames - mean) * valid, axes=_SPACE)
    cells = frames.shape[-3] * frames.shape[-2]
    power = jnp.square(jnp.abs(wave)) / cells
    return power.at[..., 0, 0, :].set(cells * jnp.square(mean[..., 0, 0, :]))


def _waves(size):
    """Waves per frame of each FFT entry: 0, 1, .. , -2, -1."""
    return np.fft.fftfreq(size, 1 / size)


register("power_ratio", Metric(power_ratio, higher_is_better=None))
