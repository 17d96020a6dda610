"""Losses of labels: per-example values in float32.

They map logits ``[..., K]`` and targets ``[..., K]`` in [0, 1] to one value per clip,
``[...]``. ``mask`` has their shape (or broadcasts to it), 1 = valid: a class that is
not valid takes no part, whatever its logit and target.
"""

import jax
import jax.numpy as jnp

from stjax.errors import UserError


def smooth(target: jax.Array, label_smoothing: float) -> jax.Array:
    """Moves a share of the target's weight to all classes evenly.

    Of one-hot targets: ``eps / K`` for the other classes, ``1 - eps + eps / K`` for the
    true one (timm, UniFormer). It is affine, so that smoothing before mixup or cutmix
    and after it are the same; do it once.

    Args:
      target: ``[..., K]``, the classes sum to 1.
      label_smoothing: the share, in [0, 1).
    """
    if not 0 <= label_smoothing < 1:
        raise UserError(f"loss.label_smoothing={label_smoothing}: expected 0 up to 1")
    if label_smoothing == 0:
        return target
    even = label_smoothing / target.shape[-1]
    return target * (1 - label_smoothing) + even


def cross_entropy(
    logits: jax.Array, target: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Cross entropy of a softmax with soft targets, ``-sum target * log softmax``.

    Args:
      logits: ``[..., K]``, any float type; -inf for an impossible class.
      target: the same shape; one-hot, smoothed or mixed.
      mask: 1 = valid; the softmax is over the valid classes.

    Returns:
      ``[...]`` float32.
    """
    logits, target, valid = _prepare(logits, target, mask)
    log_p = jax.nn.log_softmax(logits, axis=-1, where=valid)
    counts = target > 0 if valid is None else (target > 0) & valid
    # Where the target is 0 even an impossible class (-inf) costs nothing.
    return -jnp.sum(jnp.where(counts, target * log_p, 0), axis=-1)


def sigmoid_cross_entropy(
    logits: jax.Array, target: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Binary cross entropy of each class's sigmoid, mean over the classes.

    For clips with any number of labels (Charades); PyTorch's
    ``binary_cross_entropy_with_logits`` before its mean over the batch.

    Args:
      logits: ``[..., K]``, any float type.
      target: the same shape; multi-hot.
      mask: 1 = valid; the mean is over the valid classes, 0 if there is none.

    Returns:
      ``[...]`` float32.
    """
    logits, target, valid = _prepare(logits, target, mask)
    no, yes = jax.nn.softplus(logits), jax.nn.softplus(-logits)  # -log of (1 - p), p
    each = target * yes + (1 - target) * no
    if valid is None:
        return jnp.mean(each, axis=-1)
    count = jnp.maximum(jnp.sum(valid, axis=-1), 1)
    return jnp.sum(jnp.where(valid, each, 0), axis=-1) / count


def _prepare(logits, target, mask):
    """Both in float32, equal in shape; what is not valid is set to 0."""
    if logits.shape != target.shape:
        raise UserError(
            f"the logits have shape {logits.shape}, the target {target.shape}; "
            "a loss of labels needs two equal shapes [B, K]"
        )
    logits, target = logits.astype(jnp.float32), target.astype(jnp.float32)
    if mask is None:
        return logits, target, None
    valid = jnp.broadcast_to(mask, target.shape) > 0
    return jnp.where(valid, logits, 0), jnp.where(valid, target, 0), valid
