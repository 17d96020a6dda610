"""Squared and absolute error, as the video-prediction benchmarks count them.

MSE and MAE of a frame are **sums** over H, W and C (for Moving MNIST 4096 times the
mean), averaged over frames and clips; ``spatial_norm`` gives the plain mean, as in the
benchmarks' weather tables. Predictions are not clipped. Source: OpenSTL,
``openstl/core/metrics.py``.

With a mask the result is the mean over the valid cells of all frames, times the number
of cells of a frame: as if the missing cells had the average error.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from stjax.metrics.masking import FRAME, prepare
from stjax.metrics.registry import Metric, Pair, register


def mse(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    spatial_norm: bool = False,
) -> Pair:
    """Squared error of each frame, summed over H, W, C: ``[B,T]``."""
    pred, target, valid = prepare(pred, target, mask)
    return _pair(jnp.square(pred - target), valid, spatial_norm)


def mae(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    spatial_norm: bool = False,
) -> Pair:
    """Absolute error of each frame, summed over H, W, C."""
    pred, target, valid = prepare(pred, target, mask)
    return _pair(jnp.abs(pred - target), valid, spatial_norm)


def _pair(error, valid, spatial_norm):
    cells = 1 if spatial_norm else math.prod(error.shape[-3:])
    return jnp.sum(error * valid, FRAME), jnp.sum(valid, FRAME) / cells


def _mean_mse(pred, target, mask=None):
    return mse(pred, target, mask, spatial_norm=True)


def _mean_mae(pred, target, mask=None):
    return mae(pred, target, mask, spatial_norm=True)


register("mse", Metric(mse))
register("mae", Metric(mae))
register("rmse", Metric(mse, finalize=np.sqrt))
register("mse_mean", Metric(_mean_mse))
register("mae_mean", Metric(_mean_mae))
register("rmse_mean", Metric(_mean_mse, finalize=np.sqrt))
