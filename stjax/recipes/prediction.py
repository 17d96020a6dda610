"""What configs of frame prediction share: benchmarks, the official protocol."""

import functools

from ml_collections import ConfigDict

from stjax import recipes

# How the benchmarks are trained, whatever the model: batch 16 over all devices (the
# batch statistics of the published models are over 16 clips or fewer). `tiny`: fields
# of `data` for a miniature of the files.
_DIGITS = {
    "data": {"t_in": 10, "t_out": 10, "holdout": 5_000, "workers": 4},
    "epochs": 200,
    "tiny": {
        "t_in": 2,
        "t_out": 2,
        "train_clips": 8,
        "validation_clips": 2,
        "holdout": 3,
    },
}
BENCHMARKS = {
    "moving_mnist": _DIGITS,
    "moving_fmnist": _DIGITS,
    "moving_mnist_cifar": _DIGITS,
    "noisy_moving_mnist": _DIGITS,
    "taxibj": {
        "data": {"t_in": 4, "t_out": 4, "holdout": 500},
        "epochs": 50,
        "schedule": "cosine",
        "warmup": 5,
        "tiny": {"holdout": 2},
    },
    "kth": {
        "data": {"t_in": 10, "t_out": 20, "holdout": 2, "workers": 4},
        "epochs": 100,
        "tiny": {"t_in": 2, "t_out": 3, "size": 32},
    },
    "kitti_caltech": {
        "data": {"t_in": 10, "t_out": 1, "holdout": 2, "workers": 4},
        "epochs": 100,
        "tiny": {"t_in": 2},
    },
    "human": {
        "data": {"t_in": 4, "t_out": 4, "holdout": 0.05, "workers": 8},
        "epochs": 50,
        "schedule": "cosine",
        "tiny": {"size": 32},
    },
    "kinetics": {
        "data": {"t_in": 4, "t_out": 4, "workers": 16},
        "epochs": 200,
        "tiny": {"size": 32},
    },
    "bair": {
        "data": {"t_in": 4, "t_out": 12, "holdout": 0.02, "workers": 4},
        "epochs": 200,
        "tiny": {"t_in": 2, "t_out": 2},
    },
    "weatherbench": {
        "data": {
            "variables": ("t2m",),
            "t_in": 12,
            "t_out": 12,
            "normalise": "train",
            "workers": 4,
        },
        "epochs": 50,
        "schedule": "cosine",
        "tiny": {
            "t_in": 2,
            "t_out": 2,
            "train_years": (2015, 2015),
            "test_years": (2017, 2017),
        },
    },
}

# Fields of `model` in a miniature, where the model has them. Attention needs widths
# that 8 heads divide.
_SMALL = {
    "hid_s": 8,
    "hid_t": 16,
    "n_t": 2,
    "num_hidden": (4, 4),
    "filter_size": 3,
    "dim": 16,
    "heads": 2,
    "dim_head": 8,
    "n_depth": 1,
    "embed_dim": 16,
}


def benchmark(config: ConfigDict, name: str) -> None:
    """Fills in the data and the schedule of a benchmark as published.

    Args:
      config: unlocked.
      name: a key of `BENCHMARKS`, and the data source.
    """
    facts = BENCHMARKS[name]
    config.data.update(source=name, **facts["data"])
    config.train.epochs = facts["epochs"]
    config.optim.schedule = facts.get("schedule", "onecycle")
    if "warmup" in facts:
        config.optim.warmup = facts["warmup"]


def tau(config: ConfigDict, **widths: float) -> None:
    """Fills in TAU and its loss; `widths` are fields of the model."""
    config.model = {"name": "tau", "mlp_ratio": 8.0, **widths}
    config.loss.update(name="mse_divergence", alpha=0.1, temperature=0.1)


def official(config: ConfigDict) -> None:
    """The published protocol: train on all, choose the checkpoint on the test set.

    And WeatherBench: each split is normalised by its own mean and deviation.
    """
    config.train.select_on = "test"
    for field, value in {"holdout": 0, "normalise": "per_split"}.items():
        if field in config.data:
            config.data[field] = value


def shrink(config: ConfigDict) -> None:
    """Turns a config into a miniature of itself: batch 2, small frames, few widths."""
    for field, value in _SMALL.items():
        if field in config.model:
            config.model[field] = value
    config.data.update(batch=2, workers=0)
    config.data.update(BENCHMARKS[config.data.source]["tiny"])
    config.train.update(steps=1, eval_every=1)
    config.mesh.data = 1


recipe = functools.partial(recipes.recipe, shrink=shrink, words={"official": official})
"""`stjax.recipes.recipe` with the word "official"."""
