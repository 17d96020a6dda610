"""Predicting the next frames of a clip."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn

from stjax.data.base import ClipSpec, Source
from stjax.data.transforms import Augment
from stjax.errors import UserError, unknown
from stjax.losses import create_loss
from stjax.tasks import Losses, normalise

Batch = dict[str, jax.Array]


def model_fields(name: str, known: Mapping, given: Mapping, spec: ClipSpec) -> dict:
    """Fields of a model that predicts other channels than it sees.

    It is told by ``out_channels``, and predicts all frames in one call.

    Args:
      name: of the model.
      known: its fields.
      given: those that the config sets.
      spec: of the clips.

    Raises:
      UserError: it cannot predict a part of its channels.
    """
    if spec.target_index == tuple(range(len(spec.channels))):
        return {}
    if "out_channels" not in known:
        raise UserError(
            f"model {name!r} predicts all channels of its input, but the data wants"
            f" {len(spec.target_index)} of {len(spec.channels)}; choose another model"
        )
    if len(spec.target_index) == len(spec.channels):
        raise UserError(
            f"data.target_channels {spec.target_index} are all channels in another"
            " order; leave it out, or order the data"
        )
    fields = {"out_channels": len(spec.target_index)}
    if spec.t_out > spec.t_in and "t_out" in known and "t_out" not in given:
        fields["t_out"] = spec.t_out  # it cannot read its own predictions
    return fields


def init(model: nn.Module, rngs: dict[str, jax.Array], spec: ClipSpec) -> dict:
    """Fresh variables of a predictor."""
    x = jnp.zeros((1, *spec.input_shape), jnp.float32)
    return model.init(rngs, x, frames=spec.t_out, train=False)


def training_source(source: Source, config: ml_collections.ConfigDict) -> Source:
    """The source with ``data.augment`` applied.

    Raises:
      UserError: an unknown field of ``data.augment``, or one out of range.
    """
    fields = config.data.augment.to_dict()
    known = [k for k in inspect.signature(Augment).parameters if k != "source"]
    for field in fields:
        if field not in known:
            raise unknown("field of data.augment", field, known)
    augmented = Augment(source, **fields)
    return augmented if augmented.changes else source


def model_arrays(batch: Batch, spec: ClipSpec) -> tuple[jax.Array, jax.Array]:
    """Input [B, T_in, H, W, C_in] and target [B, T_out, H, W, C_out] for the model."""
    x = normalise(batch["input"], spec.offset, spec.scale)
    y = normalise(batch["target"], spec.target_offset, spec.target_scale)
    return x, y


def masked_target(y: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The target with 0 for what is masked, so that no NaN reaches a gradient."""
    return y if mask is None else jnp.where(mask > 0, y, 0.0)


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of a batch in training, by a prediction and what came.

    Attributes:
      model: a predictor; where it has ``uses_target`` (recurrent models with
        scheduled sampling) it also gets the target and the step, and may return more
        frames than the target has: then these are compared with the last frames of
        the whole clip (OpenSTL's loss of recurrent models).
      loss: ``(pred, target, mask=None) -> [B]``.
      spec: of the clips.
    """

    model: nn.Module
    loss: Callable[..., jax.Array]
    spec: ClipSpec

    @classmethod
    def create(
        cls, config: ml_collections.ConfigDict, model: nn.Module, spec: ClipSpec
    ) -> "Objective":
        """That of a config."""
        return cls(model, create_loss(**config.loss.to_dict()), spec)

    @property
    def plain(self) -> "Objective":
        """The same: it changes nothing in a batch."""
        return self

    def __call__(
        self, variables: dict, batch: Batch, step: jax.Array, rng: jax.Array
    ) -> Losses:
        """The losses of the clips of a batch."""
        x, y = model_arrays(batch, self.spec)
        mask = batch.get("mask")
        y = masked_target(y, mask)
        kept = [k for k in variables if k != "params"]
        extra = {"frames": y.shape[1]}
        if getattr(self.model, "uses_target", False):
            extra |= {"target": y, "step": step}
        pred, updates = self.model.apply(
            variables,
            x,
            train=True,
            rngs={"dropout": rng},
            mutable=[*kept, "losses"],
            **extra,
        )
        losses = jax.tree.leaves(dict(updates).pop("losses", {}))
        target, mask = self._aligned(x, y, mask, pred.shape[1])
        each = self.loss(pred.astype(jnp.float32), target, mask=mask)
        return Losses(each, batch["weight"], sum(losses), {k: updates[k] for k in kept})

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
