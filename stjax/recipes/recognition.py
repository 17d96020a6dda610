"""What configs of recognition share: data sets, sampling of clips, miniatures."""

import functools

from ml_collections import ConfigDict

from stjax import recipes
from stjax.models.registry import create_model

# Data set -> list format and number of classes. The lists are found in data.path under
# their usual names.
DATASETS = {
    "kinetics400": ("kinetics", 400),
    "kinetics600": ("kinetics", 600),
    "ssv1": ("something_v1", 174),
    "ssv2": ("something_v2", 174),
    "ucf101": ("ucf101", 101),
    "hmdb51": ("hmdb51", 51),
    "charades": ("charades", 157),
}

# Fields of `model` in a miniature, by the begin of its name.
_SMALL = {
    "": {"width": 4, "window": 1},
    "uniformer": {
        "depth": (1, 1, 2, 1),
        "embed_dim": (8, 16, 32, 64),
        "head_dim": 16,
    },
    "densenet": {"width": 8, "growth": 4, "blocks": (1, 1, 1, 1)},
    "fusion_resn": {"width": 8, "blocks": (1, 1, 1, 1), "groups": 2, "group_width": 32},
    "fusion_mobilenet": {
        "width": 8,
        "stages": ((1, 8, 1, 2), (6, 8, 1, 2), (6, 8, 2, 1), (6, 16, 1, 2)),
        "last": 16,
    },
}
MINIATURE_CLASSES = 2


def dataset(config: ConfigDict, name: str) -> None:
    """Fills in where clips and labels come from, and how they are scored.

    Videos that are missing (Kinetics loses some every year) are left out and named;
    damaged ones are replaced.

    Args:
      config: unlocked.
      name: a key of `DATASETS`.
    """
    form, classes = DATASETS[name]
    config.data.update(
        source="labelled_videos",
        format=form,
        num_classes=classes,
        skip_unreadable=True,
        bad="replace",
    )
    multi_label = name == "charades"
    config.loss.name = "sigmoid" if multi_label else "cross_entropy"
    config.metrics = ("map",) if multi_label else ("top1", "top5")


def sampling(
    config: ConfigDict,
    frames: int,
    step: int | None = None,
    how: str = "dense",
    *,
    size: int = 224,
    test_size: int = 256,
    clips: int = 10,
    crops: int = 3,
    aggregate: str = "softmax",
    **augment: object,
) -> None:
    """Fills in which frames a view has and how many views are tested.

    Args:
      config: unlocked.
      frames: of a view.
      step: frames of the video from one to the next; uniform sampling has none.
      how: a name in `stjax.data.sampling.SAMPLINGS`.
      size: side of a training crop.
      test_size: side of a test crop, and the short side of test frames.
      clips: in time, evenly spaced.
      crops: in space: 1 (centre) or 3 (left, centre, right).
      aggregate: see `stjax.data.base.LabelSpec`.
      **augment: of training clips, fields of `stjax.data.spatial.TrainTransform`.
    """
    config.data.update(
        t_in=frames,
        sampling=how,
        size=size,
        test_size=test_size,
        clips=clips,
        crops=crops,
        aggregate=aggregate,
        workers=16,
    )
    if step is not None:
        config.data.frame_step = step
    config.data.augment = ConfigDict(augment)


def training(config: ConfigDict, batch: int, **optim: object) -> None:
    """Fills in the batch, over all devices, and the optimizer.

    Args:
      config: unlocked.
      batch: clips of a step.
      **optim: fields of `stjax.optim.create_optimizer`.
    """
    config.data.batch = batch
    config.optim.update(**optim)


def shrink(config: ConfigDict) -> None:
    """Turns a config into a miniature: batch 2, 32-pixel frames, few widths."""
    name = config.model.name
    config.model.update(_SMALL[max(filter(name.startswith, _SMALL), key=len)])
    units = config.model.get("units", "")
    if not isinstance(units, str):  # one a slot
        slots = create_model(**{**config.model.to_dict(), "units": "all"}).slots
        config.model.units = tuple(units[: len(slots)])
    if config.search.warmup:
        config.search.warmup = ("train.steps=1",)
    frames = 8 * config.model.get("temporal_groups", 1)
    config.data.update(
        t_in=frames,
        size=32,
        test_size=32,
        clips=2 if config.data.clips > 1 else 1,
        crops=1,
        batch=2,
        workers=0,
    )
    if "num_classes" in config.data:
        config.data.num_classes = MINIATURE_CLASSES
    if config.data.augment.get("jitter"):
        config.data.augment.jitter = (36, 45)
    config.train.update(
        steps=1, eval_every=1, init_from=None, bn_group=None, precise_bn=None
    )
    config.mesh.data = 1


recipe = functools.partial(recipes.recipe, shrink=shrink)
"""`stjax.recipes.recipe` for recognition."""
