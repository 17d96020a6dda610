"""Searches whose answer is known: a minute or two on two CPU cores."""

import functools

from ml_collections import ConfigDict

from stjax import recipes


def training(config: ConfigDict, source: str, steps: int, cost: float = 0.0) -> None:
    """Fills in all of it.

    Gates start with equal probabilities of the units (``p_init`` .5): a template that
    drops paths seldom, as published, hardly ever trains strategies with few of them.
    Groups of four clips have a mask and batch statistics of their own: with a mask for
    every clip, as published, batch statistics are of a mixture, and no strategy is what
    it was in training once they are measured for it (experiments/fusion_search.md).

    Args:
      config: unlocked.
      source: of the clips.
      steps: of 32 clips with gates, after a third as many without.
      cost: nats for keeping a path of mean cost.
    """
    config.model = ConfigDict({"name": "fusion_toy"})
    config.data.update(source=source, batch=32)
    config.loss.name = "cross_entropy"
    config.metrics = ("top1",)
    config.optim.update(name="adam", lr=5e-3, schedule="onecycle", clip=1.0)
    config.train.update(steps=steps, eval_every=steps // 3, precise_bn=20)
    config.train.bn_group = config.search.group = 4
    warmup = f"train.steps={steps // 3}"
    config.search.update(gate="categorical", p_init=0.5, warmup=(warmup,))
    config.search.update(cost="macs", cost_weight=cost)


def _shrink(config: ConfigDict) -> None:
    config.model.width = 4
    config.data.update(batch=2, train_clips=8, eval_clips=4)
    config.train.update(steps=1, eval_every=1, precise_bn=1, bn_group=2)
    config.search.update(warmup=("train.steps=1",), group=2)
    config.mesh.data = 1


def _mask_per_clip(config: ConfigDict) -> None:
    config.train.bn_group, config.search.group = None, 1


recipe = functools.partial(
    recipes.recipe, shrink=_shrink, words={"mask_per_clip": _mask_per_clip}
)
"""`stjax.recipes.recipe` for them; "mask_per_clip" is as published."""
