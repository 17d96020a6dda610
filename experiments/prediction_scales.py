"""What a row of the table trains: a config for every model, data set and scale."""

import ml_collections

from stjax.config import load_config
from stjax.configs.prediction.simvp import RATES
from stjax.errors import UserError, unknown

TRANSLATORS = ("tau", *RATES)
RECURRENT = (
    "convlstm",
    "predrnn",
    "predrnnpp",
    "predrnnv2",
    "mim",
    "mau",
    "e3dlstm",
    "phydnet",
    "swinlstm",
)
MODELS = (*TRANSLATORS, *RECURRENT, "predformer")
DATASETS = {
    "tiny": ("moving_digits",),
    "small": ("moving_digits", "moving_mnist"),
    "paper": ("moving_mnist", "taxibj", "kth", "kitti_caltech"),
}

# Of the published updates (200 epochs of 625), how much of the teaching is over when:
# at other scales the schedules keep these fractions of the run.
_PUBLISHED_STEPS = 125_000

# tiny: 32x32 frames, 6,400 clips in batches of 16. Widths a quarter to an eighth of
# the published ones and half the layers, so that the models' costs keep about the
# ratios that they have at full size. Learning rates are higher, the runs being short.
_TINY_SIMVP = {"hid_s": 8, "hid_t": 64, "n_s": 2, "n_t": 4, "mlp_ratio": 4.0}
_TINY_STACK = {"num_hidden": (32, 32)}
_TINY = {
    **dict.fromkeys(TRANSLATORS, (_TINY_SIMVP, 5e-3)),
    **dict.fromkeys(("swin", "uniformer", "vit"), (_TINY_SIMVP, 2e-3)),
    **dict.fromkeys(RECURRENT, (_TINY_STACK, 2e-3)),
    "mau": ({"num_hidden": (16, 16)}, 2e-3),
    "phydnet": ({}, 2e-3),  # its widths are fixed
    "swinlstm": (
        {
            "embed_dim": 32,
            "depths_downsample": (2, 2),
            "depths_upsample": (2, 2),
            "num_heads": (2, 4),
        },
        2e-3,
    ),
    "predformer": (
        {"dim": 64, "heads": 4, "dim_head": 16, "patch_size": 4, "n_depth": 2},
        2e-3,
    ),
}
TINY_STEPS = 400


def row_config(
    scale: str,
    model: str,
    dataset: str,
    *,
    path: str | None = None,
    digits: str | None = None,
    steps: int | None = None,
) -> ml_collections.ConfigDict:
    """The config of a row.

    Args:
      scale: "tiny": minutes on two CPU cores; "small": 20 epochs of 10,000 clips of
        64x64 and half the published widths, about an hour on one GPU; "paper": the
        published config, as it is.
      model: one of `MODELS`; a translator stands for SimVP with it.
      dataset: one of `DATASETS[scale]`.
      path: files of the data set.
      digits: for moving_digits, see `stjax.data.digits.load_digits`.
      steps: instead of the scale's number of updates (0 or None: the scale's).

    Raises:
      UserError: an unknown name, or a combination that nobody has published.
    """
    if scale not in DATASETS:
        raise unknown("scale", scale, DATASETS)
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    if dataset not in DATASETS[scale]:
        raise unknown(f"dataset at scale {scale}", dataset, DATASETS[scale])
    config = _published(model, dataset if scale == "paper" else "moving_mnist")
    with config.unlocked():
        config.name = f"prediction_table/{scale}/{dataset}/{model}"
        config.data.path = path
        if dataset == "moving_digits":
            _use_digits(config, digits, tiny=scale == "tiny")
        if scale == "tiny":
            fields, config.optim.lr = _TINY[model]
            config.model.update(fields)
            config.train.update(steps=TINY_STEPS, epochs=None)
        elif scale == "small":
            _halve(config)
            config.train.update(steps=20 * 625, epochs=None)
        if steps:
            config.train.update(steps=steps, epochs=None)
        if scale != "paper":
            config.train.eval_every = max(1, config.train.steps // 4)
            _compress(config, config.train.steps)
    return config


def _published(model: str, dataset: str) -> ml_collections.ConfigDict:
    if model == "tau":
        return load_config(f"tau/{dataset}")
    name = f"simvp:{model},{dataset}" if model in TRANSLATORS else f"{model}:{dataset}"
    try:
        return load_config(f"prediction/{name}")
    except UserError as error:
        raise UserError(f"{model} has no published config: {error}") from None


def _use_digits(config, digits: str | None, *, tiny: bool) -> None:
    """Generated clips instead of the benchmark's files."""
    data = config.data
    del data["holdout"]
    data.update(source="moving_digits", path=digits, workers=0 if tiny else 4)
    data.update(train_clips=10_000, eval_clips=500 if tiny else 1_000)
    if tiny:
        data.update(size=32, digit_size=14)


def _halve(config) -> None:
    """Half the published widths."""
    model = config.model
    for field in ("hid_s", "hid_t", "dim", "heads", "embed_dim"):
        if field in model:
            model[field] = model[field] // 2
    if "num_hidden" in model:
        model.num_hidden = tuple(n // 2 for n in model.num_hidden)


def _compress(config, steps: int) -> None:
    """Scheduled sampling and teacher forcing end after the published part of a run."""
    fraction, model = steps / _PUBLISHED_STEPS, config.model
    stop = max(1, round(50_000 * fraction))
    if model.name == "predrnnv2":
        model.reverse_start, model.reverse_stop = stop // 2, stop
        model.reverse_alpha = 5_000 * fraction
    elif model.name == "phydnet":
        model.steps_per_epoch = max(1, round(625 * fraction))
    elif model.name in RECURRENT and model.name != "swinlstm":
        model.sampling_rate, model.sampling_stop = 1 / stop, stop
