"""The table of metrics, and how their (numerator, denominator) pairs become a number.

Every metric is ``f(pred, target, mask=None, **fields) -> (numerator, denominator)``,
each ``[B, T]`` float32: one entry per clip and lead time. The result over any set of
clips is ``sum(numerator) / sum(denominator)``, then `Metric.finalize`. So a padded last
batch stays exact (multiply both by the clip's weight), batches and hosts add up, and
the curve over lead times is the same sum taken per T.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import numpy as np

from stjax.errors import UserError, unknown

Pair = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric: the pair function, what is done with the ratio, and which way is up.

    Attributes:
      fn: ``f(pred, target, mask=None) -> (numerator, denominator)``, each ``[B, T]``.
      finalize: applied to the ratio of the sums, or None.
      higher_is_better: for choosing a checkpoint; None where the best value is neither
        end (frequency bias: 1).
    """

    fn: Callable[..., Pair]
    finalize: Callable[[np.ndarray], np.ndarray] | None = None
    higher_is_better: bool | None = False


class Summary(NamedTuple):
    """A metric over a data set: one number, and its curve over lead times ``[T]``."""

    value: float
    curve: np.ndarray


METRICS: dict[str, Metric] = {}


def register(name: str, metric: Metric) -> None:
    """Adds a metric to the table; its name must be new."""
    if name in METRICS:
        raise ValueError(f"metric {name!r} is already there")
    METRICS[name] = metric


def create_metric(spec: str, **fields: object) -> Metric:
    """The metric of a name, with its options set.

    Args:
      spec: a name of `METRICS`, with options after a colon if wanted:
        ``'ssim'``, ``'csi:threshold=74'``, ``'fss:threshold=0.5,window=9'``,
        ``'lpips:weights=FILE'``.
      **fields: options by keyword, for values that text cannot carry (latitudes).

    Raises:
      UserError: an unknown name or option, a value that is not a number where one is
        needed, or an option that the metric needs and did not get.
    """
    name, _, text = spec.partition(":")
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    metric = METRICS[name]
    options = _options(text, spec)
    parameters = inspect.signature(metric.fn).parameters
    keywords = {
        key: parameter
        for key, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    fields = options | fields
    for field in fields.keys() - keywords.keys():
        raise unknown(f"option of metric {name}", field, keywords)
    for key, value in options.items():
        if isinstance(value, str) and str not in get_args(keywords[key].annotation):
            raise UserError(f"metric {spec!r}: got {value!r}, expected {key}=number")
    for key, parameter in keywords.items():
        if parameter.default is parameter.empty and key not in fields:
            raise UserError(f"metric {name!r} needs {key}: write {name}:{key}=VALUE")
    if not fields:
        return metric
    return dataclasses.replace(metric, fn=functools.partial(metric.fn, **fields))


def summarise(
    numerator: np.ndarray, denominator: np.ndarray, metric: Metric
) -> Summary:
    """Sums pairs ``[..., T]`` over all clips (float64): the number and the curve.

    NaN where nothing was valid, or where a score is not defined (CSI with no event).
    """
    numerator = np.asarray(numerator, np.float64)
    denominator = np.asarray(denominator, np.float64)
    clips = tuple(range(numerator.ndim - 1))
    top, bottom = numerator.sum(clips), denominator.sum(clips)
    value = _ratio(top.sum(), bottom.sum(), metric)
    return Summary(float(value), _ratio(top, bottom, metric))


def _ratio(top, bottom, metric):
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bottom == 0, np.nan, np.divide(top, bottom))
    return ratio if metric.finalize is None else metric.finalize(ratio)


def _options(text, spec):
    options = {}
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        if not value:
            raise UserError(f"metric {spec!r}: got {item!r}, expected name=value")
        try:
            number = float(value)
        except ValueError:
            options[key.strip()] = value
        else:
            options[key.strip()] = int(number) if number.is_integer() else number
    return options
