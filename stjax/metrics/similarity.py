"""Structural similarity with the uniform window of scikit-image.

Wang et al., "Image quality assessment: from error visibility to structural
similarity", 2004, as `skimage.metrics.structural_similarity` computes it by default:
7x7 uniform window, sample covariance, K1 = .01, K2 = .03, borders of 3 px left out.
"""

import math

import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.metrics.masking import FRAME, prepare
from stjax.metrics.registry import Metric, Pair, register
from stjax.metrics.windows import window_sum

_WINDOW = 7


def ssim(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    data_range: float = 1.0,
) -> Pair:
    """Structural similarity of each frame, mean over windows and channels.

    ``[B,T,H,W,C]`` in [0, 1] to ``[B,T]``; ``pred`` is clipped, ``target`` is not.
    With a mask the mean is over the windows all of whose 49 pixels are valid.

    Args:
      pred: the prediction.
      target: the truth.
      mask: 1 = valid.
      data_range: 1 is right for [0, 1]. The published tables of OpenSTL used 2
        (scikit-image's default for floats up to 0.19), which reads higher.

    Raises:
      UserError: frames smaller than the window.
    """
    height, width = target.shape[-3:-1]
    if min(height, width) < _WINDOW:
        raise UserError(
            f"ssim needs frames of at least {_WINDOW}x{_WINDOW}, got {height}x{width}"
        )
    pred, target, valid = prepare(pred, target, mask)
    similarity = _similarity(jnp.clip(pred, 0, 1), target, data_range)
    whole = jnp.ones_like(similarity)
    if mask is not None:  # XLA takes long to fold the window sums of a constant
        whole = (window_sum(valid, _WINDOW) > _WINDOW**2 - 0.5).astype(jnp.float32)
    windows = math.prod(similarity.shape[-3:])
    return jnp.sum(similarity * whole, FRAME) / windows, jnp.sum(whole, FRAME) / windows


def _similarity(x, y, data_range):
    """The map of local similarities, ``[..., H-6, W-6, C]``."""
    # Variances come from differences of large sums: centring first keeps float32 exact
    # to 1e-6 on bright frames.
    centre = jnp.mean(y, FRAME, keepdims=True)
    x, y = x - centre, y - centre
    count = _WINDOW**2
    mean_x, mean_y = window_sum(x, _WINDOW) / count, window_sum(y, _WINDOW) / count
    sample = count / (count - 1)
    var_x = sample * (window_sum(x * x, _WINDOW) / count - mean_x**2)
    var_y = sample * (window_sum(y * y, _WINDOW) / count - mean_y**2)
    cov = sample * (window_sum(x * y, _WINDOW) / count - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = mean_x + centre, mean_y + centre
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * cov + c2) / (var_x + var_y + c2)


def _ssim_range2(pred, target, mask=None):
    return ssim(pred, target, mask, data_range=2.0)


register("ssim", Metric(ssim, higher_is_better=True))
register("ssim_range2", Metric(_ssim_range2, higher_is_better=True))
