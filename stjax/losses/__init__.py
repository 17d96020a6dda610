"""Training losses, ``f(pred, target, mask=None)``: per-example values in float32."""

import functools
from collections.abc import Callable

import jax

from stjax.errors import UserError, unknown
from stjax.losses.frames import REDUCTIONS, differential_divergence, mae, mse
from stjax.losses.labels import cross_entropy, sigmoid_cross_entropy, smooth

__all__ = [
    "Loss",
    "create_loss",
    "cross_entropy",
    "differential_divergence",
    "mae",
    "mse",
    "sigmoid_cross_entropy",
    "smooth",
]

Loss = Callable[..., jax.Array]


def create_loss(name: str, **fields: object) -> Loss:
    """The loss of a config: ``f(pred, target, mask=None) -> per-clip values``.

    Args:
      name: of frames ``'mse'``, ``'mae'``, ``'mse_mae'`` (their sum, E3D-LSTM) or
        ``'mse_divergence'`` (TAU: mse + alpha * differential divergence); of labels
        ``'cross_entropy'`` or, where a clip may have several, ``'sigmoid'``.
      **fields: ``alpha`` (0.1), ``temperature`` (0.1), ``reduction`` (``'mean'``),
        ``label_smoothing`` (0). None means the default. A loss does not read the first
        three where they have no meaning, so that a config can change ``loss.name``
        alone; smoothing is an error there.

    Raises:
      UserError: an unknown name, field or reduction, or labels smoothed that are not
        those of a cross entropy.
    """
    if name not in _LOSSES:
        raise unknown("loss", name, _LOSSES)
    for field in fields.keys() - _DEFAULTS.keys():
        raise unknown("field of loss", field, _DEFAULTS)
    given = {key: value for key, value in fields.items() if value is not None}
    values = _DEFAULTS | given
    if values["reduction"] not in REDUCTIONS:
        raise unknown("reduction of loss", values["reduction"], REDUCTIONS)
    loss, read = _LOSSES[name]
    if values["label_smoothing"] and "label_smoothing" not in read:
        raise UserError(
            f"loss.label_smoothing={values['label_smoothing']} has no meaning in loss"
            f" {name!r}: set it to 0, or loss.name to 'cross_entropy'"
        )
    return functools.partial(loss, **{key: values[key] for key in read})


def _mse_mae(pred, target, mask=None, *, reduction):
    squared = mse(pred, target, mask, reduction=reduction)
    return squared + mae(pred, target, mask, reduction=reduction)


def _mse_divergence(pred, target, mask=None, *, reduction, alpha, temperature):
    divergence = differential_divergence(
        pred, target, temperature=temperature, reduction=reduction, mask=mask
    )
    return mse(pred, target, mask, reduction=reduction) + alpha * divergence


def _cross_entropy(pred, target, mask=None, *, label_smoothing):
    return cross_entropy(pred, smooth(target, label_smoothing), mask)


_DEFAULTS = {
    "alpha": 0.1,
    "temperature": 0.1,
    "reduction": "mean",
    "label_smoothing": 0.0,
}
# Each with the fields that it reads.
_LOSSES = {
    "mse": (mse, ("reduction",)),
    "mae": (mae, ("reduction",)),
    "mse_mae": (_mse_mae, ("reduction",)),
    "mse_divergence": (_mse_divergence, ("reduction", "alpha", "temperature")),
    "cross_entropy": (_cross_entropy, ("label_smoothing",)),
    "sigmoid": (sigmoid_cross_entropy, ()),
}
