"""Training on the motion clips: minutes on two CPU cores, for any recogniser.

A module of its own because non-local networks and UniFormer share it.
"""

import functools

from ml_collections import ConfigDict

from stjax import recipes


def training(config: ConfigDict, lr: float, steps: int) -> None:
    """Fills in all but the model.

    The clips as they are: a mirrored one would move the other way, and one shown in
    parts would hide its digits.

    Args:
      config: unlocked.
      lr: peak learning rate.
      steps: of 32 clips.
    """
    config.data.update(
        source="labelled_videos",
        format="folders",
        t_in=8,
        frame_step=1,
        sampling="strided",
        size=32,
        batch=32,
    )
    whole = {"scale": (1.0, 1.0), "aspect": (1.0, 1.0), "flip": False}
    config.data.augment = ConfigDict(whole)
    config.loss.name = "cross_entropy"
    config.metrics = ("top1",)
    config.optim.update(
        name="adamw",
        lr=lr,
        schedule="onecycle",
        clip=1.0,
        weight_decay=0.05,
        decay_1d=False,
    )
    config.train.update(steps=steps, eval_every=steps // 2)


def _shrink(config: ConfigDict) -> None:
    small = {"width": 4}
    if config.model.name.startswith("uniformer"):
        small = {"depth": (1, 1, 1, 1), "embed_dim": (4, 8, 8, 8), "head_dim": 4}
    config.model.update(small)
    config.data.batch = 2
    config.train.update(steps=1, eval_every=1)
    config.mesh.data = 1


recipe = functools.partial(recipes.recipe, shrink=_shrink)
"""`stjax.recipes.recipe` for motion clips."""
