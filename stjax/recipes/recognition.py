"""What configs of recognition share: data sets, sampling of clips, miniatures."""

import functools

from ml_collections import ConfigDict

from stjax import recipes

# Data set -> list format and number of classes. The lists are found in data.path under
# their usual names.
DATASETS = {
    "kinetics400": ("kinetics", 400),
    "kinetics600": ("kinetics", 600),
    "ssv1": ("ssv1", 174),
    "ssv2": ("ssv2", 174),
    "ucf101": ("ucf101", 101),
    "hmdb51": ("hmdb51", 51),
    "charades": ("charades", 157),
}

# Fields of `model` in a miniature, where the model has them.
_SMALL = {
    "width": 4,
    "depth": (1, 1, 2, 1),
    "embed_dim": (8, 16, 32, 64),
    "head_dim": 16,
}
MINIATURE_CLASSES = 2


def dataset(config: ConfigDict, name: str) -> None:
    """Fills in where clips and labels come from, and how they are scored.

    Args:
      config: unlocked, with its model.
      name: a key of `DATASETS`.
    """
    form, classes = DATASETS[name]
    config.data.update(source="labelled_videos", format=form, bad="replace")
    config.model.num_classes = classes
    config.loss.name = "cross_entropy"
    config.metrics = ("top1", "top5")
    if name == "charades":
        config.model.multi_label = True
        config.loss.name = "sigmoid"
        config.metrics = ("map",)


def sampling(
    config: ConfigDict,
    frames: int,
    step: int | None = None,
    *,
    size: int = 224,
    test_size: int = 256,
    clips: int = 10,
    crops: int = 3,
    aggregate: str = "softmax",
) -> None:
    """Fills in which frames a view has and how many views are tested.

    Args:
      config: unlocked.
      frames: of a view.
      step: frames from one to the next (dense sampling); None: one frame from each of
        `frames` segments of the whole video (uniform, TSN).
      size: side of a training crop.
      test_size: side of a test crop, and the short side of test frames.
      clips: in time, evenly spaced.
      crops: in space: 1 (centre) or 3 (left, centre, right).
      aggregate: see `stjax.data.base.LabelSpec`.
    """
    config.data.update(
        t_in=frames,
        sampling="uniform" if step is None else "dense",
        size=size,
        test_size=test_size,
        clips=clips,
        crops=crops,
        aggregate=aggregate,
        workers=16,
    )
    if step is not None:
        config.data.frame_step = step


def training(config: ConfigDict, batch: int, **optim: object) -> None:
    """Fills in the batch, over all devices, and the optimizer.

    Norm scales, layer scales and biases are not decayed.

    Args:
      config: unlocked.
      batch: clips of a step.
      **optim: fields of `stjax.optim.create_optimizer`.
    """
    config.data.batch = batch
    config.optim.update(decay_1d=False, **optim)


def shrink(config: ConfigDict) -> None:
    """Turns a config into a miniature: batch 2, 32-pixel frames, few widths."""
    for field, value in _SMALL.items():
        if field in config.model:
            config.model[field] = value
    config.model.num_classes = MINIATURE_CLASSES
    config.data.update(
        t_in=4, size=32, test_size=32, clips=2, crops=1, batch=2, workers=0
    )
    config.train.update(steps=1, eval_every=1, init_from=None)
    config.mesh.data = 1


recipe = functools.partial(recipes.recipe, shrink=shrink)
"""`stjax.recipes.recipe` for recognition."""
