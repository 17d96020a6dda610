"""One training step: normalise, predict, compare, update."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from stjax.data.base import ClipSpec
from stjax.optim import Optimizer, global_norm
from stjax.sharding.mesh import replicated
from stjax.training.state import TrainState

Batch = dict[str, jax.Array]


def normalise(raw: jax.Array, offset: tuple, scale: tuple) -> jax.Array:
    """``(raw - offset) / scale`` per channel, float32."""
    offset, scale = np.float32(offset), np.float32(scale)
    return (raw.astype(jnp.float32) - offset) / scale


def model_arrays(batch: Batch, spec: ClipSpec) -> tuple[jax.Array, jax.Array]:
    """Input [B, T_in, H, W, C_in] and target [B, T_out, H, W, C_out] for the model."""
    x = normalise(batch["input"], spec.offset, spec.scale)
    y = normalise(batch["target"], spec.target_offset, spec.target_scale)
    return x, y


def masked_target(y: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The target with 0 for what is masked, so that no NaN reaches a gradient."""
    return y if mask is None else jnp.where(mask > 0, y, 0.0)


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """``(state, batch) -> (state, metrics)``, pure.

    Attributes:
      model: a predictor; where it has ``uses_target`` (recurrent models with
        scheduled sampling) it also gets the target and the step, and may return more
        frames than the target has: then these are compared with the last frames of
        the whole clip (OpenSTL's loss of recurrent models).
      tx: the optimizer.
      loss: ``(pred, target, mask=None) -> [B]``.
      spec: of the clips.
      seed: the randomness of a step is ``fold_in(key(seed), step)``.
    """

    model: nn.Module
    tx: Optimizer
    loss: Callable[..., jax.Array]
    spec: ClipSpec
    seed: int = 0

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict]:
        """Takes one optimizer step.

        Args:
          state: a `TrainState`.
          batch: raw ``input`` and ``target``, ``weight`` [B], perhaps ``mask``.

        Returns:
          The next state, and ``loss``, ``grad_norm`` (before clipping) and the
          ``lr`` and, for Adam, ``beta1`` of this step.
        """
        grads_of = jax.value_and_grad(self._loss, has_aux=True)
        (loss, collections), grads = grads_of(state.params, state, batch)
        updates, opt_state = self.tx.update(grads, state.opt_state, state.params)
        metrics = {"loss": loss, "grad_norm": global_norm(grads)}
        metrics |= self.tx.values(state.step)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            collections=collections,
            opt_state=opt_state,
        )
        return state, metrics

    def jitted(self, shardings: TrainState, mesh: jax.sharding.Mesh) -> Callable:
        """The compiled step; it reuses the memory of the state it is given."""
        out = (shardings, replicated(mesh))
        return jax.jit(self.__call__, donate_argnums=0, out_shardings=out)

    def _loss(self, params: dict, state: TrainState, batch: Batch):
        x, y = model_arrays(batch, self.spec)
        mask = batch.get("mask")
        y = masked_target(y, mask)
        extra = {"frames": y.shape[1]}
        if getattr(self.model, "uses_target", False):
            extra |= {"target": y, "step": state.step}
        pred, updates = self.model.apply(
            {"params": params, **state.collections},
            x,
            train=True,
            rngs={"dropout": jax.random.fold_in(jax.random.key(self.seed), state.step)},
            mutable=[*state.collections, "losses"],
            **extra,
        )
        losses = jax.tree.leaves(dict(updates).pop("losses", {}))
        collections = {k: updates[k] for k in state.collections}
        target, mask = self._aligned(x, y, mask, pred.shape[1])
        each = self.loss(pred.astype(jnp.float32), target, mask=mask)
        weight = batch["weight"]
        loss = (each * weight).sum() / jnp.maximum(weight.sum(), 1.0)
        return loss + sum(losses), collections

    def _aligned(self, x, y, mask, frames: int):
        """Target and mask for a prediction of ``frames`` last frames of the clip."""
        if frames <= y.shape[1]:
            return y[:, -frames:], mask if mask is None else mask[:, -frames:]
        seen = x[..., self.spec.target_index][:, y.shape[1] - frames :]
        target = jnp.concatenate([seen, y], axis=1)
        if mask is not None:
            # Which input cells hold data is not told here: these frames do not count.
            mask = jnp.concatenate([jnp.zeros(seen.shape, mask.dtype), mask], axis=1)
        return target, mask
