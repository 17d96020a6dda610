"""Scores on a latitude-longitude grid, where cells shrink towards the poles.

Rows of the frame are latitudes. Each cell weighs as its area, cos(latitude). Source:
Rasp et al., WeatherBench, 2020.
"""

import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UserError
from stjax.metrics.masking import FRAME, prepare
from stjax.metrics.registry import Metric, Pair, register

Grid = np.ndarray | jax.Array | tuple[float, ...]


def mse_latitude(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    latitude: Grid,
) -> Pair:
    """Area-weighted mean squared error of each frame; 'rmse_latitude' is its root.

    The root is taken after the mean over clips, as WeatherBench does.

    Args:
      pred: ``[B, T, H, W, C]``, in the unit of the data.
      target: the same shape.
      mask: 1 = valid.
      latitude: degrees of the H rows.

    Raises:
      UserError: latitudes that are not H degrees within ±90.
    """
    pred, target, valid = prepare(pred, target, mask)
    weight = valid * _area(latitude, target.shape[-3])
    return jnp.sum(weight * jnp.square(pred - target), FRAME), jnp.sum(weight, FRAME)


def anomaly_correlation(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    climatology: Grid,
    latitude: Grid | None = None,
    centred: bool = True,
) -> Pair:
    """Correlation of the departures from climatology, in each field; then the mean.

    Args:
      pred: ``[B, T, H, W, C]``, in the unit of the data.
      target: the same shape.
      mask: 1 = valid.
      climatology: the usual value, of a shape that broadcasts to the target's.
      latitude: degrees of the H rows, for area weights; None: all cells alike.
      centred: subtract the field's own mean anomaly first (WeatherBench 1); False
        leaves it in (ECMWF's other form, WeatherBench 2).

    Raises:
      UserError: a climatology that does not fit, or latitudes that are not H degrees.
    """
    pred, target, valid = prepare(pred, target, mask)
    climatology = jnp.asarray(climatology, jnp.float32)
    try:
        usual = jnp.broadcast_to(climatology, target.shape)
    except ValueError:
        raise UserError(
            f"the climatology has shape {climatology.shape}, which does not broadcast "
            f"to the target's {target.shape}"
        ) from None
    weight = valid if latitude is None else valid * _area(latitude, target.shape[-3])
    usual = jnp.where(valid > 0, usual, 0)

    def anomaly(field):
        departure = field - usual
        if not centred:
            return departure
        total = jnp.maximum(_over_space(weight), 1e-30)
        return departure - _over_space(weight * departure) / total

    forecast, truth = anomaly(pred), anomaly(target)
    both = _over_space(weight * forecast * truth)
    size = jnp.sqrt(_over_space(weight * jnp.square(forecast)))
    size *= jnp.sqrt(_over_space(weight * jnp.square(truth)))
    defined = size > 0
    correlation = jnp.where(defined, both / jnp.where(defined, size, 1), 0)
    channels = target.shape[-1]
    return (
        jnp.sum(correlation, FRAME) / channels,
        jnp.sum(defined.astype(jnp.float32), FRAME) / channels,
    )


def _over_space(cells):
    return jnp.sum(cells, (-3, -2), keepdims=True)


def _area(latitude, rows):
    """cos(latitude) over its mean, ``[H, 1, 1]``."""
    latitude = np.asarray(latitude, np.float64)
    if latitude.shape != (rows,) or not np.all(np.abs(latitude) <= 90):
        raise UserError(
            f"latitude must be {rows} degrees within ±90, one for each row; got shape "
            f"{latitude.shape}"
        )
    weight = np.cos(np.deg2rad(latitude))
    return jnp.asarray(weight / weight.mean(), jnp.float32)[:, None, None]


register("rmse_latitude", Metric(mse_latitude, finalize=np.sqrt))
register("acc", Metric(anomaly_correlation, higher_is_better=True))
