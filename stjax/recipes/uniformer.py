"""How the authors of UniFormer trained, by the values of their ``run.sh`` files.

Their yaml files, and the paper's text here and there, say otherwise. A module of its
own because both Kinetics, both Something-Something and both small sets share it.
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import dataset, sampling, training

MODELS = ("s", "b")
_GPUS = 8  # batch statistics are those of the clips of one of them


def published(
    config: ConfigDict,
    data: str,
    *,
    model: str,
    frames: int,
    step: int | None,
    views: tuple[int, int],
    batch: int,
    lr: float,
    epochs: int,
    warmup: int,
    drop_path: float,
    flip: bool = True,
    rand_augment: str = "rand-m7-n4-mstd0.5-inc1",
) -> None:
    """Fills in all of a config.

    Every clip is decoded once and augmented twice, so a step sees 2 * `batch` views.
    AdamW, cosine after a linear warm-up, both a step at a time; mixup or cutmix on
    every batch, random erasing, labels smoothed by 0.1.

    Args:
      config: unlocked.
      data: a key of `stjax.recipes.recognition.DATASETS`.
      model: a name in `MODELS`.
      frames: of a view.
      step: between them; None: uniform sampling.
      views: of a test, in time and in space; their logits are averaged.
      batch: clips of a step.
      lr: peak learning rate.
      epochs: of the training.
      warmup: epochs.
      drop_path: of the last block.
      flip: mirror half of the clips.
      rand_augment: see `stjax.data.rand_augment`.
    """
    config.model = {"name": f"uniformer_{model}", "drop_path_rate": drop_path}
    dataset(config, data)
    sampling(
        config,
        frames,
        step,
        "uniform" if step is None else "dense",
        test_size=224,
        clips=views[0],
        crops=views[1],
        aggregate="logits",
        flip=flip,
        rand_augment=rand_augment,
    )
    config.data.repeats = 2
    config.mix.update(mixup=0.8, cutmix=1.0, prob=1.0, switch_prob=0.5, erase=0.25)
    config.loss.label_smoothing = 0.1
    training(
        config,
        batch=batch,
        name="adamw",
        lr=lr,
        weight_decay=0.05,
        decay_1d=False,
        clip=20.0,
        schedule="cosine_iterations",
        warmup=warmup,
    )
    config.train.update(epochs=epochs, save_every=2_000, bn_group=batch // _GPUS)


def kinetics(
    config: ConfigDict, data: str, model: str, clip: str, batch: int, lr: float
) -> None:
    """Kinetics from ImageNet: `clip` is "16x4", frames x step; 4 clips x 1 crop."""
    frames, step = map(int, clip.split("x"))
    published(
        config,
        data,
        model=model,
        frames=frames,
        step=step,
        views=(4, 1),
        batch=batch,
        lr=lr,
        epochs=100 if frames == 8 else 110,
        warmup=10,
        drop_path={"s": 0.1, "b": 0.3}[model],
    )


def something(
    config: ConfigDict, data: str, model: str, frames: int, epochs: int, drop: float
) -> None:
    """Something-Something from Kinetics: 1 clip x 3 crops, never mirrored."""
    batch = 40 if (model, frames) == ("b", 16) else 32
    published(
        config,
        data,
        model=model,
        frames=frames,
        step=None,
        views=(1, 3),
        batch=batch,
        lr=2e-4 * batch / 32,
        epochs=epochs,
        warmup=5,
        drop_path=drop,
        flip=False,
    )


def small(config: ConfigDict, data: str) -> None:
    """UCF101 and HMDB51: UniFormer-S 16x4 from Kinetics-400, 5 clips x 3 crops."""
    published(
        config,
        data,
        model="s",
        frames=16,
        step=4,
        views=(5, 3),
        batch=128,
        lr=5e-5,
        epochs=25,
        warmup=5,
        drop_path=0.2,
        rand_augment="rand-m5-n2-mstd0.25",
    )
