"""Configs: the common skeleton, finding one by name, and the way to JSON and back."""

import importlib
import importlib.util
import json
import pkgutil
from collections.abc import Iterator

import ml_collections
from etils import epath
from ml_collections import config_dict

from stjax.errors import UserError, unknown
from stjax.search.section import check_search, search_section

# Sections whose fields are fixed here. `model`, `data` and `optim` are keywords of
# constructors: these reject unknown ones themselves.
_FIXED = ("mix", "search", "train", "mesh")

_CHOICES = {
    "dtype": ("float32", "bfloat16"),
    "remat": ("none", "full", "dots"),
    "data.nan": ("error", "mask"),
    "data.bad": ("error", "replace"),
    "train.select_on": ("validation", "test"),
}

# What may differ when a run is taken up again: where and how fast it runs and what
# is written, not what is computed.
MAY_DIFFER = (
    "data.path",
    "data.workers",
    "data.backend",
    "data.bad_share",
    "remat",
    "model.scan",
    "mesh.",
    "train.eval_every",
    "train.save_every",
    "train.loggers",
    "baselines",
)


def base_config() -> ml_collections.ConfigDict:
    """The fields that every config has, locked; None stands for "the default".

    A config file starts from this and, inside ``with config.unlocked():``, adds the
    fields of its model, data source and optimizer.

    Fields that need a word:
      name: the config's own name, kept in results.json.
      dtype: of the computation; parameters are always float32.
      remat: "full" or "dots": recompute activations in the backward pass to save
        memory, all or all but matrix products.
      model.scan: of models with equal blocks: one loop over them, which compiles
        faster; runs and weights go on with the other choice.
      data.batch: clips of a step over all hosts.
      data.nan: "error", or "mask" to leave missing values out of loss and metrics.
      data.bad: "error", or "replace" clips that cannot be read by others.
      data.bad_share: a training stops when more than this share was replaced.
      data.augment: of training clips only: `stjax.data.transforms.Augment` for
        prediction, `stjax.data.spatial.TrainTransform` for recognition.
      mix: of training clips with labels, on the device: ``mixup`` and ``cutmix``
        (parameters of their beta distributions), ``prob`` that a batch is mixed,
        ``switch_prob`` of cutmix where there are both, ``erase`` (probability).
      loss.label_smoothing: of "cross_entropy".
      optim.freeze: regular expressions; parameters whose path matches stay as they
        are.
      optim.layer_decay: factor of the learning rate from a layer to the one before.
      metrics: such as ("mse", "csi:threshold=0.5"); none: those that suit the data.
        The first one chooses the best checkpoint. See `stjax.scoring`.
      baselines: rows of the results besides the constant ones: "lagrangian".
      search: see `stjax.search.section.search_section`; no search without a gate.
      train.steps: wins over train.epochs where both are given.
      train.eval_every: steps between evaluations (None: an epoch).
      train.save_every: steps between checkpoints (None: as train.eval_every).
      train.init_from: start from the weights of a workdir, .safetensors or .pth;
        "{workdir}" in it is the run's own workdir.
      train.init_labels: file with the class names of train.init_from, in its order:
        the outputs of classes that are known by name are taken over.
      train.accumulate: parts of a batch, computed one after another with one update
        at the end: less memory, the same gradient. Batch statistics are those of a
        part.
      train.ema: decay of the moving average of the weights that is evaluated.
      train.bn_group: clips that share the statistics of a batch normalisation (None:
        all of a step, or of a part of it). Published runs had those of one GPU.
      train.precise_bn: batches to measure batch statistics on before an evaluation.
      train.select_on: the split that chooses the best checkpoint; "test" is the
        official protocol of some benchmarks.
      train.loggers: who gets the scalars besides metrics.jsonl: "tensorboard",
        "wandb" (pip install 'stjax[wandb]'), "mlflow"; see `stjax.training.loggers`.
      mesh.data: -1 takes all devices that fsdp and space leave.
    """
    placeholder = config_dict.placeholder
    config = ml_collections.ConfigDict(
        {
            "name": "",
            "seed": 42,
            "dtype": "float32",
            "remat": "none",
            "model": {"name": placeholder(str)},
            "data": {
                "source": placeholder(str),
                "backend": "grain",
                "path": placeholder(str),
                "t_in": placeholder(int),
                "t_out": placeholder(int),
                "batch": 16,
                "workers": 0,
                "nan": "error",
                "bad": "error",
                "bad_share": 0.1,
                "augment": {"crop": 1.0, "flip": "none"},
            },
            "mix": {
                "mixup": placeholder(float),
                "cutmix": placeholder(float),
                "prob": 1.0,
                "switch_prob": 0.5,
                "erase": placeholder(float),
            },
            "loss": {
                "name": "mse",
                "alpha": placeholder(float),
                "temperature": placeholder(float),
                "reduction": placeholder(str),
                "label_smoothing": placeholder(float),
            },
            "optim": {
                "name": "adam",
                "lr": 1e-3,
                "schedule": "onecycle",
                "warmup": placeholder(int),
                "clip": placeholder(float),
                "weight_decay": placeholder(float),
                "freeze": (),
                "layer_decay": placeholder(float),
            },
            "search": search_section(),
            "metrics": (),
            "baselines": (),
            "train": {
                "steps": placeholder(int),
                "epochs": placeholder(int),
                "eval_every": placeholder(int),
                "save_every": placeholder(int),
                "init_from": placeholder(str),
                "init_labels": placeholder(str),
                "accumulate": 1,
                "ema": placeholder(float),
                "bn_group": placeholder(int),
                "precise_bn": placeholder(int),
                "select_on": "validation",
                "loggers": ("tensorboard",),
            },
            "mesh": {"data": -1, "fsdp": 1, "space": 1},
        }
    )
    return config.lock()


def list_configs() -> list[str]:
    """The names that `load_config` finds in the package ``stjax.configs``."""
    package = importlib.import_module("stjax.configs")
    found = pkgutil.walk_packages(package.__path__, "stjax.configs.")
    names = (m.name.removeprefix("stjax.configs.") for m in found if not m.ispkg)
    return sorted(name.replace(".", "/") for name in names)


def config_module(name_or_file: str):
    """The Python module of a config: a name such as "tau/moving_digits", or a file."""
    if name_or_file.endswith(".py"):
        if not epath.Path(name_or_file).exists():
            raise UserError(f"there is no config file {name_or_file!r}; check the path")
        spec = importlib.util.spec_from_file_location("stjax_config", name_or_file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    if name_or_file not in list_configs():
        raise unknown("config", name_or_file, list_configs())
    return importlib.import_module("stjax.configs." + name_or_file.replace("/", "."))


def load_config(name_or_file: str) -> ml_collections.ConfigDict:
    """Finds a config.

    Args:
      name_or_file: the name of a config that comes with stjax
        ("tau/moving_digits"), a Python file with ``get_config``, or a JSON file (of
        a workdir); the first two may be followed by ":variant".

    Raises:
      UserError: there is no such config or variant, or it has unknown fields.
    """
    if name_or_file.endswith(".json"):
        path = epath.Path(name_or_file)
        if not path.exists():
            raise UserError(f"there is no config file {name_or_file!r}; check the path")
        values = json.loads(path.read_text())
        return from_dict(values.get("config", values))
    name, colon, variant = name_or_file.partition(":")
    module = config_module(name)
    try:
        config = module.get_config(variant) if colon else module.get_config()
    except (AttributeError, KeyError) as e:  # ml_collections: a locked config
        raise UserError(f"config {name_or_file!r}: {e.args[0]}") from e
    validate(config)
    return config


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks the fields that no constructor will check.

    Raises:
      UserError: a field is unknown, or a choice is none of the possible ones.
    """
    base = base_config()
    for key in config:
        if key not in base:
            raise unknown("config field", key, base.keys())
    for section in _FIXED:
        for key in config[section]:
            if key not in base[section]:
                raise unknown(f"field of {section}", key, base[section].keys())
    values = dict(flatten(config.to_dict()))
    for key, known in _CHOICES.items():
        if values.get(key) not in known:
            raise unknown(f"value of {key}", str(values.get(key)), known)
    for key in ("model.name", "data.source"):
        if not values.get(key):
            raise UserError(f"the config sets no {key}; add it")
    if config.search.gate is not None:
        check_search(config.search)
    train = config.train
    for key in ("steps", "epochs", "eval_every", "save_every"):
        if train[key] is not None and train[key] < 1:
            raise UserError(f"train.{key} is {train[key]}; it has to be at least 1")
    if not train.steps and not train.epochs:
        raise UserError("the config sets neither train.steps nor train.epochs; set one")


def to_dict(config: ml_collections.ConfigDict) -> dict:
    """Plain values that JSON can hold."""
    return json.loads(json.dumps(config.to_dict()))


def from_dict(values: dict) -> ml_collections.ConfigDict:
    """The inverse of `to_dict`, locked; lists become tuples again."""
    config = base_config()
    with config.unlocked():
        _update(config, values)
    validate(config)
    return config


def _update(config: ml_collections.ConfigDict, values: dict) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            if key not in config or key == "augment":  # other fields in each task
                config[key] = ml_collections.ConfigDict()
            _update(config[key], value)
        elif not (key in config and value is None):  # keep the typed placeholder
            config[key] = tuple(value) if isinstance(value, list) else value


def flatten(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Pairs such as ("data.batch", 16) from nested dictionaries."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def difference(old: dict, new: dict) -> str | None:
    """The first field in which two runs compute different things, as "key: a, b".

    Fields in `MAY_DIFFER` do not count, but clips made on a device are others. None
    where there is no such field.
    """
    old, new = dict(flatten(old)), dict(flatten(new))
    for key in sorted(old.keys() | new.keys()):
        counts = not key.startswith(MAY_DIFFER)
        counts |= key == "data.backend" and "device" in (old.get(key), new.get(key))
        if counts and old.get(key) != new.get(key):
            return f"{key}: {old.get(key)!r} there, {new.get(key)!r} now"
    return None
