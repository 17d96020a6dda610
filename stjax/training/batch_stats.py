"""Exact batch statistics: mean and variance over many batches (``train.precise_bn``).

The running averages of batch normalisation lag behind the weights and remember the
last few batches only. Here the statistics of all layers are measured again, over n
batches with the weights as they are.
"""

import functools
from collections.abc import Callable, Iterable

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stjax.errors import UserError
from stjax.layers.common import BatchNorm

_MOMENTS = "batch_moments"


def recalibrate(
    variables: dict,
    batches: Iterable[object],
    forward: Callable[..., object],
    sharding: jax.sharding.Sharding | None = None,
) -> dict:
    """Variables with the mean and variance of their batch norms over `batches`.

    The mean is that of the batch means, the variance the mean of E[x^2] minus its
    square, both in float64: with batches of one size exactly the moments of all their
    values (not Bessel-corrected). Each layer sees what the layers before it make with
    the statistics of the batch, as in training. Layers that do not use these (frozen
    ones, a probe's backbone) stay as they are. Source: fvcore's ``update_bn_stats``,
    and Wu and Johnson, "Rethinking Batch in BatchNorm", arXiv 2105.07576.

    Args:
      variables: of a model; not changed.
      batches: what `forward` takes; padding is not told apart from clips.
      forward: ``(variables, batch, index, **kwargs)``: the model in training mode,
        ``return model.apply(variables, x, train=True, rngs=..., **kwargs)``; it is
        jitted, and index is the number of the batch, to make the rngs with.
      sharding: of the statistics; on a mesh `stjax.sharding.mesh.replicated` of it.

    Returns:
      The variables, with other ``batch_stats``.

    Raises:
      UserError: no batch, or no layer with batch statistics.
    """
    measure = jax.jit(functools.partial(_moments, forward), out_shardings=sharding)
    total, count = {}, 0
    for batch in batches:
        for name, value in jax.device_get(measure(variables, batch, count)).items():
            mean, var = np.moveaxis(np.asarray(value, np.float64), 1, 0)
            moments = np.stack([mean, var + mean**2]).mean(1)  # over the calls
            total[name] = total.get(name, 0.0) + moments
        count += 1
    if not total:
        raise UserError(
            f"train.precise_bn measured nothing in {count} batches: it needs data, and"
            " a model with batch norms that are not frozen; set it to None"
        )
    stats = flax.traverse_util.flatten_dict(variables["batch_stats"], sep="/")
    for name, moments in total.items():
        mean, square = moments / count
        for leaf, value in (("mean", mean), ("var", square - mean**2)):
            value = value.astype(stats[f"{name}/{leaf}"].dtype)
            stats[f"{name}/{leaf}"] = jax.device_put(value, sharding)
    stats = flax.traverse_util.unflatten_dict(stats, sep="/")
    return {**variables, "batch_stats": stats}


def _moments(forward, variables, batch, index) -> dict[str, jax.Array]:
    """Layer -> [calls, 2, C]: mean and variance of what it normalises, in a batch."""
    with nn.intercept_methods(_measure):
        _, found = forward(variables, batch, index, mutable=["batch_stats", _MOMENTS])
    flat = flax.traverse_util.flatten_dict(found.get(_MOMENTS, {}))
    return {"/".join(path[:-1]): jnp.stack(calls) for path, calls in flat.items()}


def _measure(call, args, kwargs, context):
    """Sows the moments of the input of a batch norm that normalises by them."""
    module = context.module
    if context.method_name == "__call__" and _by_batch(module, kwargs):
        x = args[0].astype(jnp.float32)
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axes)
        module.sow(
            _MOMENTS, "moments", jnp.stack([mean, jnp.square(x - mean).mean(axes)])
        )
    return call(*args, **kwargs)


def _by_batch(module: nn.Module, kwargs: dict) -> bool:
    if isinstance(module, BatchNorm):
        return kwargs["train"] and not module.frozen
    if isinstance(module, nn.BatchNorm):
        running = kwargs.get("use_running_average")
        return not (module.use_running_average if running is None else running)
    return False
