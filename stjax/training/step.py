"""One training step: the losses of a batch, their gradient, an update."""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import optax

from stjax.compiling import compiler_options
from stjax.layers.common import grouped_batch_norm
from stjax.optim import Optimizer, global_norm
from stjax.sharding.mesh import replicated
from stjax.tasks import Losses
from stjax.training import ema
from stjax.training.accumulation import gradients
from stjax.training.state import TrainState

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """``(state, batch) -> (state, metrics)``, pure.

    Attributes:
      objective: ``(variables, batch, step, rng) -> Losses`` of a task.
      tx: the optimizer.
      seed: the randomness of a step is ``fold_in(key(seed), step)``.
      ema: decay of the moving average of the parameters, where the state has one.
      bn_groups: parts of the batch (of each of its parts) with batch statistics of
        their own.
      accumulate: parts of the batch that are computed one after another, see
        `stjax.training.accumulation`.
    """

    objective: Callable[..., Losses]
    tx: Optimizer
    seed: int = 0
    ema: float | None = None
    bn_groups: int = 1
    accumulate: int = 1

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict]:
        """Takes one optimizer step.

        Args:
          state: a `TrainState`.
          batch: raw ``input`` and ``target``, ``weight`` [B], perhaps ``mask``.

        Returns:
          The next state, and ``loss``, ``grad_norm`` (before clipping) and the
          ``lr`` and, for Adam, ``beta1`` of this step.
        """
        rng = jax.random.fold_in(jax.random.key(self.seed), state.step)
        weight = batch["weight"].sum()
        loss, collections, grads = gradients(
            partial(self._loss, step=state.step, weight=weight),
            *(state.params, state.collections, batch, rng, self.accumulate),
        )
        updates, opt_state = self.tx.update(grads, state.opt_state, state.params)
        norm = global_norm(self.tx.trained(grads))
        metrics = {"loss": loss, "grad_norm": norm, **self.tx.values(state.step)}
        params = optax.apply_updates(state.params, _after(norm, updates))
        average = state.ema
        if average is not None:
            average = ema.update(average, params, state.step, self.ema)
        state = state.replace(
            step=state.step + 1,
            params=params,
            collections=collections,
            opt_state=opt_state,
            ema=average,
        )
        return state, metrics

    def jitted(self, shardings: TrainState, mesh: jax.sharding.Mesh) -> Callable:
        """The compiled step; it reuses the memory of the state it is given."""
        out = (shardings, replicated(mesh))
        return jax.jit(
            self.__call__,
            donate_argnums=0,
            out_shardings=out,
            compiler_options=compiler_options(mesh),
        )

    def _loss(
        self,
        params: dict,
        collections: dict,
        batch: Batch,
        rng: jax.Array,
        *,
        step: jax.Array,
        weight: jax.Array,
    ):
        """The share of a batch, or of a part of it, in the loss of the whole batch.

        Its clips have the sum of weights ``weight``.
        """
        variables = {"params": params, **collections}
        groups = self.bn_groups
        with grouped_batch_norm(groups) if groups > 1 else nullcontext():
            found = self.objective(variables, batch, step, rng)
        views = len(found.weight) // len(batch["weight"])
        count = jnp.maximum(views * weight, 1.0)
        loss = (found.each * found.weight).sum() / count
        return loss + found.extra / self.accumulate, found.collections


def _after(norm: jax.Array, updates: optax.Updates) -> optax.Updates:
    """The same updates, on CPU not before the norm of all gradients is known.

    XLA:CPU else may update parameters before the backward pass has read them all, and
    so begins each step with a copy of the parameters.
    """
    one = jax.lax.platform_dependent(
        norm, cpu=lambda n: jnp.where(n < 0, 0.0, 1.0), default=jnp.ones_like
    )
    return jax.tree.map(lambda update: update * one.astype(update.dtype), updates)
