"""Losses of frame prediction: per-example values in float32.

Every loss maps ``pred`` and ``target`` ``[..., T, H, W, C]`` to one value per clip,
``[...]`` (``[B]`` for a batch, a scalar for a single clip or under `jax.vmap`).
``mask`` has the target's shape (or broadcasts to it), 1 = valid: cells that are not
valid take no part, whatever they hold (NaN included); a clip without a valid cell
costs 0. ``reduction='mean'`` divides by the number of valid cells, ``'sum'`` does not.
"""

import jax
import jax.numpy as jnp

from stjax.errors import UserError, unknown

_CLIP = (-4, -3, -2, -1)  # the axes T, H, W, C
REDUCTIONS = ("mean", "sum")
_FAR = -1e30  # a logit that no softmax sees; finite, so that gradients stay clean


def mse(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    reduction: str = "mean",
) -> jax.Array:
    """Squared error of each clip: mean (or sum) over T, H, W and C."""
    pred, target, valid = _prepare(pred, target, mask)
    return _reduce(jnp.square(pred - target), valid, reduction)


def mae(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    reduction: str = "mean",
) -> jax.Array:
    """Absolute error of each clip: mean (or sum) over T, H, W and C."""
    pred, target, valid = _prepare(pred, target, mask)
    return _reduce(jnp.abs(pred - target), valid, reduction)


def differential_divergence(
    pred: jax.Array,
    target: jax.Array,
    *,
    temperature: float = 0.1,
    reduction: str = "mean",
    mask: jax.Array | None = None,
) -> jax.Array:
    """How differently prediction and truth distribute their change over the frame.

    Each difference of neighbouring frames becomes a distribution over its H·W·C
    cells, ``softmax(difference / temperature)``; the loss is KL(prediction ‖ truth).
    Computed on log-softmax in float32, so it needs no epsilon.

    Source: Tan et al., "Temporal Attention Unit", CVPR 2023, section 3. The paper sums
    over cells and frame pairs (``reduction='sum'``); the official code (OpenSTL,
    ``diff_div_reg``), which made the published numbers, takes the mean over them
    (``'mean'``) and, as here, gives 0 for clips of one or two frames.

    Args:
      pred: ``[..., T, H, W, C]``, any float type.
      target: the same shape.
      temperature: of both softmaxes, above 0 (the paper: 0.1).
      reduction: ``'mean'`` or ``'sum'``.
      mask: 1 = valid; a difference is valid where both its frames are, all others are
        left out of both softmaxes.

    Returns:
      ``[...]`` float32, at least 0 up to rounding.
    """
    if temperature <= 0:
        raise UserError(f"loss temperature must be above 0, got {temperature}")
    pred, target, valid = _prepare(pred, target, mask)
    if pred.shape[-4] <= 2:
        return _reduce(jnp.zeros_like(pred), None, reduction)
    log_p, log_q = _differences(pred), _differences(target)
    if valid is not None:
        valid = _flatten(valid[..., 1:, :, :, :] * valid[..., :-1, :, :, :])
    log_p = _log_softmax(log_p / temperature, valid)
    log_q = _log_softmax(log_q / temperature, valid)
    divergence = jnp.exp(log_p) * (log_p - log_q)
    return _reduce(divergence, valid, reduction, axes=(-2, -1))


def _prepare(pred, target, mask):
    """Both in float32, equal in shape; what is not valid is set to 0."""
    if pred.shape != target.shape:
        raise UserError(
            f"the prediction has shape {pred.shape}, the target {target.shape}; "
            "a loss needs two equal shapes [B, T, H, W, C]"
        )
    pred, target = pred.astype(jnp.float32), target.astype(jnp.float32)
    if mask is None:
        return pred, target, None
    valid = jnp.broadcast_to(mask, target.shape) > 0
    pred, target = jnp.where(valid, pred, 0), jnp.where(valid, target, 0)
    return pred, target, valid.astype(jnp.float32)


def _reduce(values, valid, reduction, axes=_CLIP):
    if reduction not in REDUCTIONS:
        raise unknown("reduction of loss", reduction, REDUCTIONS)
    if valid is None:
        return getattr(jnp, reduction)(values, axis=axes)
    total = jnp.sum(values * valid, axis=axes)
    if reduction == "sum":
        return total
    return total / jnp.maximum(jnp.sum(valid, axis=axes), 1)


def _flatten(frames):
    return frames.reshape(*frames.shape[:-3], -1)


def _differences(clip):
    return _flatten(clip[..., 1:, :, :, :] - clip[..., :-1, :, :, :])


def _log_softmax(logits, valid):
    if valid is not None:
        logits = jnp.where(valid > 0, logits, _FAR)
    return jax.nn.log_softmax(logits, axis=-1)
