"""Exact batch statistics: mean and variance over many batches (``train.precise_bn``).

The running averages of batch normalisation lag behind the weights and remember the
last few batches only. Here the statistics of all layers are measured again, over n
batches with the weights as they are.
"""

from collections.abc import Callable, Iterable

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stjax.errors import UserError
from stjax.layers.common import BatchNorm

_STATS = "batch_stats"


def recalibrate(
    variables: dict,
    batches: Iterable[object],
    forward: Callable[..., dict],
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
      forward: ``(variables, batch, index) -> collections``: runs the model in training
        mode and gives the collections after it, such as ``batch_stats``: the second
        result of ``model.apply(variables, x, train=True, rngs=..., mutable=...)``. It
        is jitted; index is the number of the batch, to make the rngs with.
      sharding: of the statistics; on a mesh `stjax.sharding.mesh.replicated` of it.

    Returns:
      The variables, with other ``batch_stats``.

    Raises:
      UserError: no batch, or no layer with batch statistics.
    """
    return Recalibrator(forward, sharding)(variables, batches)


class Recalibrator:
    """`recalibrate` for many variables of a model, compiled once.

    Attributes:
      forward: see `recalibrate`.
      sharding: likewise.
    """

    def __init__(
        self,
        forward: Callable[..., dict],
        sharding: jax.sharding.Sharding | None = None,
    ):
        self.forward, self.sharding = forward, sharding
        self._measure = jax.jit(_Measure(forward), out_shardings=sharding)

    def __call__(self, variables: dict, batches: Iterable[object]) -> dict:
        """Arguments, result and errors as of `recalibrate`."""
        total, count = {}, 0
        for batch in batches:
            found = jax.device_get(self._measure(variables, batch, count))
            for name, value in found.items():
                mean, var = np.asarray(value, np.float64)
                total[name] = total.get(name, 0.0) + np.stack([mean, var + mean**2])
            count += 1
        if not total:
            raise UserError(
                f"train.precise_bn measured nothing in {count} batches: it needs data,"
                " and a model with batch norms that are not frozen; set it to None"
            )
        stats = flax.traverse_util.flatten_dict(variables[_STATS])
        for name, moments in total.items():
            mean, square = moments / count
            for leaf, value in (("mean", mean), ("var", square - mean**2)):
                path = (*name.split("/"), leaf)
                value = value.astype(stats[path].dtype)
                stats[path] = jax.device_put(value, self.sharding)
        return {**variables, _STATS: flax.traverse_util.unflatten_dict(stats)}


class _Measure:
    """``(variables, batch, index) -> {layer: [2, C]}``: mean and variance of a batch.

    Instead of moving its running statistics towards them, a batch norm stores the
    moments of what it normalises.
    """

    def __init__(self, forward: Callable[..., dict]):
        self.forward = forward
        self.calls = {}  # path of a layer -> how often it was used, at trace time

    def __call__(self, variables: dict, batch: object, index: jax.Array) -> dict:
        self.calls.clear()
        with nn.intercept_methods(self._store):
            found = self.forward(variables, batch, index)
        return {
            "/".join(path): jnp.stack(_leaves(found[_STATS], path))
            for path in self.calls
        }

    def _store(self, call, args, kwargs, context):
        module = context.module
        if context.method_name != "__call__" or not _by_batch(module, kwargs):
            return call(*args, **kwargs)
        n = self.calls.get(module.path, 0)
        before = [module.get_variable(_STATS, leaf) for leaf in ("mean", "var")]
        y = call(*args, **kwargs)
        x = args[0].astype(jnp.float32)
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axes)
        var = jnp.square(x - mean).mean(axes)
        if n:  # used again: the moments of all its inputs (Chan et al.)
            change = mean - before[0]
            mean = before[0] + change / (n + 1)
            var = before[1] + (var - before[1]) / (n + 1)
            var += jnp.square(change) * (n / (n + 1) ** 2)
        module.put_variable(_STATS, "mean", mean)
        module.put_variable(_STATS, "var", var)
        self.calls[module.path] = n + 1
        return y


def _leaves(stats: dict, path: tuple[str, ...]) -> list[jax.Array]:
    for name in path:
        stats = stats[name]
    return [stats["mean"], stats["var"]]


def _by_batch(module: nn.Module, kwargs: dict) -> bool:
    if isinstance(module, BatchNorm):
        return kwargs["train"] and not module.frozen
    if isinstance(module, nn.BatchNorm):
        running = kwargs.get("use_running_average")
        return not (module.use_running_average if running is None else running)
    return False
