"""Recognising what a clip shows."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn

from stjax.data.base import LabelSpec, Source
from stjax.errors import UserError
from stjax.losses import create_loss
from stjax.tasks import Losses, normalise
from stjax.training.mixing import erase, mix

Batch = dict[str, jax.Array]


def model_fields(name: str, known: Mapping, given: Mapping, spec: LabelSpec) -> dict:
    """One output for each class; a model that tells several labels apart is told.

    Raises:
      UserError: the config asks for another number of classes.
    """
    count = len(spec.classes)
    if given.get("num_classes", count) != count:
        raise UserError(
            f"model.num_classes={given['num_classes']}, but the data has {count}"
            f" classes ({', '.join(spec.classes[:3])} ...); leave it out"
        )
    fields = {"num_classes": count, "multi_label": spec.multi_label}
    return {key: value for key, value in fields.items() if key in known}


def init(model: nn.Module, rngs: dict[str, jax.Array], spec: LabelSpec) -> dict:
    """Fresh variables of a recogniser."""
    x = jnp.zeros((1, *spec.input_shape), jnp.float32)
    return model.init(rngs, x, train=False)


def training_source(source: Source, config: ml_collections.ConfigDict) -> Source:
    """The source itself: it crops and flips when it reads."""
    del config
    return source


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of a batch in training: erase, mix, recognise, compare.

    Attributes:
      model: a recogniser.
      loss: ``(logits, target) -> [N]``.
      spec: of the clips.
      mixup, cutmix, prob, switch_prob: of `stjax.training.mixing.mix`.
      erase: probability of random erasing.
    """

    model: nn.Module
    loss: Callable[..., jax.Array]
    spec: LabelSpec
    mixup: float | None = None
    cutmix: float | None = None
    prob: float = 1.0
    switch_prob: float = 0.5
    erase: float | None = None

    @classmethod
    def create(
        cls, config: ml_collections.ConfigDict, model: nn.Module, spec: LabelSpec
    ) -> "Objective":
        """That of a config."""
        loss = create_loss(**config.loss.to_dict())
        return cls(model, loss, spec, **config.mix.to_dict())

    @property
    def plain(self) -> "Objective":
        """The same for clips as they are, neither mixed nor erased."""
        return dataclasses.replace(self, mixup=None, cutmix=None, erase=None)

    def __call__(
        self, variables: dict, batch: Batch, step: jax.Array, rng: jax.Array
    ) -> Losses:
        """The losses of the views of the clips of a batch, [B * V]."""
        del step
        dropout, erasing, mixing = jax.random.split(rng, 3)
        b, views = batch["input"].shape[:2]
        x = batch["input"].reshape(b * views, *batch["input"].shape[2:])
        x = normalise(x, self.spec.offset, self.spec.scale)
        target = jnp.repeat(batch["target"], views, axis=0)
        if self.erase:
            x = erase(erasing, x, prob=self.erase)
        if self.mixup or self.cutmix:
            x, target = mix(
                mixing,
                x,
                target,
                mixup=self.mixup,
                cutmix=self.cutmix,
                prob=self.prob,
                switch_prob=self.switch_prob,
            )
        kept = [k for k in variables if k != "params"]
        logits, updates = self.model.apply(
            variables,
            x,
            train=True,
            rngs={"dropout": dropout},
            mutable=[*kept, "losses"],
        )
        losses = jax.tree.leaves(dict(updates).pop("losses", {}))
        each = self.loss(logits.astype(jnp.float32), target)
        weight = jnp.repeat(batch["weight"], views)
        return Losses(each, weight, sum(losses), {k: updates[k] for k in kept})
