"""Searches whose answer is known: a minute or two on two CPU cores."""

import functools

from ml_collections import ConfigDict

from stjax import recipes


def training(config: ConfigDict, source: str, steps: int, cost: float = 0.0) -> None:
    """Fills in all of it.

    Gates start with equal probabilities of the units (``p_init`` .5): a template that
    drops paths seldom, as published, hardly ever trains strategies with few of them.

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
    warmup = f"train.steps={steps // 3}"
    config.search.update(gate="categorical", p_init=0.5, warmup=(warmup,))
    config.search.update(cost="macs", cost_weight=cost)


def _shrink(config: ConfigDict) -> None:
    config.model.width = 4
    config.data.update(batch=2, train_clips=8, eval_clips=4)
    config.train.update(steps=1, eval_every=1, precise_bn=1)
    config.search.warmup = ("train.steps=1",)
    config.mesh.data = 1


recipe = functools.partial(recipes.recipe, shrink=_shrink)
"""`stjax.recipes.recipe` for them."""
