"""What the files in ``configs/`` share: benchmarks, variants, miniatures.

A config file is a function decorated with `recipe`::

    @recipe("tau/kth", t_out=("20", "40"))
    def get_config(config, t_out):
        ...

    miniature = get_config.miniature

Users name it ``--config=tau/kth``, ``tau/kth:40`` or, for the published protocol,
``tau/kth:40,official``.
"""

import functools
import itertools
from collections.abc import Callable

from ml_collections import ConfigDict

from stjax.config import base_config
from stjax.errors import unknown

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


def recipe(name: str, **groups: tuple[str, ...]) -> Callable:
    """Makes a `get_config` of a function that fills a config in.

    Args:
      name: of the config.
      **groups: choices that a variant may name, the first being the default.

    Returns:
      A decorator. The function gets an unlocked `base_config` and a choice for each
      group; what comes out is ``get_config(variant=None)``, where `variant` is words
      with commas between: choices, "official" (see `official`) and "miniature". It
      has the attributes ``variants`` (every combination of choices) and
      ``miniature(variant=None)``.

    Raises:
      UserError: an unknown word.
    """
    known = [*itertools.chain(*groups.values()), "official", "miniature"]

    def decorate(fill: Callable) -> Callable:
        @functools.wraps(fill)
        def get_config(variant: str | None = None) -> ConfigDict:
            words = variant.split(",") if variant else []
            chosen = {group: choices[0] for group, choices in groups.items()}
            for word in words:
                if word not in known:
                    raise unknown(f"variant of {name}", word, known)
                chosen |= {g: word for g, choices in groups.items() if word in choices}
            config = base_config()
            with config.unlocked():
                config.name = name + (f":{variant}" if variant else "")
                fill(config, **chosen)
                if "official" in words:
                    official(config)
                if "miniature" in words:
                    shrink(config)
            return config

        def miniature(variant: str | None = None) -> ConfigDict:
            """A tiny model on a miniature of the data set, for tests."""
            return get_config(f"{variant},miniature" if variant else "miniature")

        del get_config.__wrapped__  # its own signature is the right one
        get_config.variants = tuple(map(",".join, itertools.product(*groups.values())))
        get_config.miniature = miniature
        return get_config

    return decorate
