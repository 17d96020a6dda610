"""Training a template: a phase without gates, and one with them."""

import ast
import contextlib
import json

import ml_collections
import numpy as np
from etils import epath

from stjax import config as configs
from stjax.errors import UserError, unknown
from stjax.training import inputs
from stjax.training.loop import train
from stjax.training.state import build_model
from stjax.training.workdir import check_storage, description

WARMUP = "warmup"
_FREE = ("model", "data", "optim")  # sections whose fields a constructor checks


def fit(
    config: ml_collections.ConfigDict, workdir: str | epath.Path, profile: bool = False
) -> dict:
    """Trains the template of a search, or goes on where it stopped.

    With ``search.warmup`` the network with all paths is first trained without gates,
    in ``WORKDIR/warmup``, and the template begins with its weights. Both are ordinary
    runs of `stjax.train`; the probabilities of the units are written into
    ``metrics.jsonl`` at every evaluation, see `trajectory`.

    Args:
      config: with ``search.gate``.
      workdir: of the run, see `stjax.training.loop.train`.
      profile: see there.

    Returns:
      What results.json holds; empty where the machine is taken away before the end.

    Raises:
      UserError: see `stjax.training.loop.train`; or there is no gate, or
        ``search.warmup`` cannot be understood.
    """
    configs.validate(config)
    if config.search.gate is None:
        raise UserError(
            "search.gate is not set, so there is nothing to search; set it to"
            " 'categorical' or 'bernoulli'"
        )
    check_storage(workdir)
    if config.search.warmup:
        before = epath.Path(workdir) / WARMUP
        first = warmup_config(config)
        if not finished(before, first) and not train(first, before):
            return {}
        config = config.copy_and_resolve_references()
        with config.unlocked():
            # Not the path itself, so that a workdir can be moved and taken up again.
            config.train.init_from = f"{{workdir}}/{WARMUP}"
            config.train.init_labels = None
    return train(config, workdir, profile)


def warmup_config(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config of the phase without gates: no search, all paths that it may need.

    Raises:
      UserError: ``search.warmup`` names no field, or a value that does not fit.
    """
    spec = inputs.open_split(config, "train").spec
    first = config.copy_and_resolve_references()
    with first.unlocked():
        first.search.cost_weight = 0.0  # asks for no costs
        units = build_model(first, spec).model.units
        first.model.units = units
        first.search = configs.base_config().search
        first.search.holdout = config.search.holdout
        fields = [_override(first, text) for text in config.search.warmup]
        if "train.epochs" in fields and "train.steps" not in fields:
            first.train.steps = None
    first.lock()
    configs.validate(first)
    return first


def trajectory(
    workdir: str | epath.Path,
) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """How the probabilities of the units went.

    Args:
      workdir: of `fit`.

    Returns:
      Steps [N] of the evaluations, and {slot: {unit: [N]}}; a slot's name has dots for
      slashes.

    Raises:
      UserError: nothing was written there.
    """
    path = epath.Path(workdir) / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [row for row in map(json.loads, lines) if "gates/entropy" in row]
    if not rows:
        raise UserError(f"{workdir} has no gates in metrics.jsonl; give that of a fit")
    found = {}
    for key in rows[0]:
        if key.count("/") > 1 and key.startswith("gates/"):
            _, slot, unit = key.split("/", 2)
            values = np.array([row[key] for row in rows], np.float64)
            found.setdefault(slot, {})[unit] = values
    return np.array([row["step"] for row in rows]), found


def finished(workdir: epath.Path, config: ml_collections.ConfigDict) -> bool:
    """Whether this run is there from its begin to its end.

    Raises:
      UserError: another one is.
    """
    if not (workdir / "results.json").exists():
        return False
    old = configs.to_dict(description(workdir)[0])
    if found := configs.difference(old, configs.to_dict(config)):
        raise UserError(
            f"{workdir} holds a run with another config ({found}); go on with its own"
            " config or choose a new workdir"
        )
    return True


def _override(config: ml_collections.ConfigDict, text: str) -> str:
    """Sets a field from ``"train.epochs=50"``; returns its name."""
    field, equals, value = text.partition("=")
    *parents, last = field.strip().split(".")
    if not equals or len(parents) != 1:
        raise UserError(
            f"search.warmup: got {text!r}, expected SECTION.FIELD=VALUE such as"
            " 'train.epochs=50'"
        )
    name = parents[0]
    if name not in config or not isinstance(config[name], ml_collections.ConfigDict):
        raise unknown("section in search.warmup", name, config.keys())
    section = config[name]
    if last not in section and name not in _FREE:
        known = [f"{name}.{key}" for key in section]
        raise unknown("field in search.warmup", field, known)
    with contextlib.suppress(ValueError, SyntaxError):  # or it is a word
        value = ast.literal_eval(value)
    known = configs.base_config()[name]
    kind = known.get_type(last) if last in known else object
    if kind is float and isinstance(value, int):
        value = float(value)
    if not (value is None or isinstance(value, kind)):
        raise UserError(f"search.warmup: {text!r}: expected {kind.__name__}")
    section[last] = value
    return field.strip()
