"""Forecasts of events: how often a threshold is reached, and where.

An event is a value at or above ``threshold`` (in the unit of the values). Hits, misses
and false alarms are summed over all cells, clips and channels before the ratio is
taken, so that a frame without events does no harm; a lead time without any is NaN.
Cells that are not valid are not counted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.metrics.masking import FRAME, prepare
from stjax.metrics.registry import Metric, Pair, register
from stjax.metrics.windows import window_sum


class Contingency(NamedTuple):
    """Counts of each frame, ``[B, T]`` float32."""

    hits: jax.Array
    misses: jax.Array
    false_alarms: jax.Array
    correct_negatives: jax.Array


def contingency(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    threshold: float,
) -> Contingency:
    """The 2x2 table of each frame of ``[B,T,H,W,C]``."""
    forecast, event, valid = _events(pred, target, mask, threshold)

    def count(cells):
        return jnp.sum(cells * valid, FRAME)

    return Contingency(
        hits=count(forecast * event),
        misses=count((1 - forecast) * event),
        false_alarms=count(forecast * (1 - event)),
        correct_negatives=count((1 - forecast) * (1 - event)),
    )


def csi(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    threshold: float,
) -> Pair:
    """Critical success index (threat score): hits / (hits + misses + false alarms)."""
    table = contingency(pred, target, mask, threshold=threshold)
    return table.hits, table.hits + table.misses + table.false_alarms


def pod(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    threshold: float,
) -> Pair:
    """Probability of detection: hits / (hits + misses)."""
    table = contingency(pred, target, mask, threshold=threshold)
    return table.hits, table.hits + table.misses


def far(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    threshold: float,
) -> Pair:
    """False alarm ratio: false alarms / (hits + false alarms)."""
    table = contingency(pred, target, mask, threshold=threshold)
    return table.false_alarms, table.hits + table.false_alarms


def sucr(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    threshold: float,
) -> Pair:
    """Success ratio, 1 - FAR: hits / (hits + false alarms)."""
    table = contingency(pred, target, mask, threshold=threshold)
    return table.hits, table.hits + table.false_alarms


def frequency_bias(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    threshold: float,
) -> Pair:
    """Events forecast per event that happened; 1 is right, above is too many."""
    table = contingency(pred, target, mask, threshold=threshold)
    return table.hits + table.false_alarms, table.hits + table.misses


def fss(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    threshold: float,
    window: int,
    zero_padding: bool = True,
) -> Pair:
    """Fractions skill score: are there as many events within ``window`` pixels?

    ``1 - sum (Pf - Po)² / (sum Pf² + sum Po²)`` over windows, with Pf and Po the
    fractions of the window with events. Source: Roberts and Lean, 2008.

    Args:
      pred: ``[B,T,H,W,C]``.
      target: the same shape.
      mask: 1 = valid; there is no event where it is 0, in either field.
      threshold: events are values at or above it.
      window: side of the square window, in pixels.
      zero_padding: windows reach over the border, where nothing happens (pysteps);
        False: only windows inside the frame (the default of `scores`).

    Raises:
      UserError: a window that is not a whole number, or larger than the frame without
        padding.
    """
    smallest = min(target.shape[-3:-1])
    if window != int(window) or window < 1:
        raise UserError(f"fss needs a window of 1 or more whole pixels, got {window}")
    if not zero_padding and window > smallest:
        raise UserError(
            f"fss with window={window} and zero_padding=0 needs frames of at least "
            f"that size, got {smallest}"
        )
    forecast, event, valid = _events(pred, target, mask, threshold)

    def fraction(events):
        total = window_sum(events * valid, int(window), zero_padding=zero_padding)
        return total / window**2

    forecast, event = fraction(forecast), fraction(event)
    return (
        2 * jnp.sum(forecast * event, FRAME),
        jnp.sum(jnp.square(forecast), FRAME) + jnp.sum(jnp.square(event), FRAME),
    )


def _events(pred, target, mask, threshold):
    pred, target, valid = prepare(pred, target, mask)
    forecast, event = pred >= threshold, target >= threshold
    return forecast.astype(jnp.float32), event.astype(jnp.float32), valid


register("csi", Metric(csi, higher_is_better=True))
register("pod", Metric(pod, higher_is_better=True))
register("far", Metric(far))
register("sucr", Metric(sucr, higher_is_better=True))
register("bias", Metric(frequency_bias, higher_is_better=None))
register("fss", Metric(fss, higher_is_better=True))
