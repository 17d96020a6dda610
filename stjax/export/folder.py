"""Weights, config and card in a folder: the format that lasts.

The files are those that the Hugging Face Hub knows::

    config.json         the config, what the clips look like, the weights' checksum
    model.safetensors   variables by their paths, "params.hid.enc_0.block.norm1.scale"
    README.md           the model's card
    results.json        of its training, where it is known

A stack of equal blocks (``model.scan``) is stored block by block.
"""

import hashlib
import json

import flax
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from stjax import config as configs
from stjax.data.base import spec_from_dict
from stjax.errors import UserError
from stjax.export import card
from stjax.export.given import Function, loaded, run_of
from stjax.stacked import stack, unstack
from stjax.training.checkpoint import differences
from stjax.training.state import build_model, init_variables
from stjax.training.workdir import Run, versions
from stjax.training.writer import write_whole

FORMAT = 1
CONFIG, WEIGHTS, CARD, RESULTS = (
    "config.json",
    "model.safetensors",
    "README.md",
    "results.json",
)


def to_folder(
    model: Function | str,
    folder: str | epath.Path,
    *,
    name: str | None = None,
    license: str = "unknown",
    about: str = "",
    half: bool = False,
) -> epath.Path:
    """Writes config.json, model.safetensors, README.md and, if known, results.json.

    Paths of this machine (``data.path``, ``train.init_from``) are left out.

    Args:
      model: what `stjax.load` returns, or takes.
      folder: is created; files of these names are replaced. May be remote.
      name: of the model, in its card; by default that of the folder.
      license: of the weights, as the Hub writes it: "apache-2.0", "cc-by-4.0" ...
      about: Markdown for the card, such as what data it learnt from.
      half: store kernels as float16, half the size; they are float32 when loaded.

    Returns:
      The folder.

    Raises:
      UserError: the model's config is not known, or a kernel is too large for float16.
    """
    function = loaded(model)
    run = run_of(function)
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = flat_variables(run.variables)
    weights = safetensors.save(_halved(flat) if half else flat, {"format": "flax"})
    values = {
        "format": "stjax",
        "format_version": FORMAT,
        "library_name": "stjax",
        "model_type": run.config.model.name,
        "config": public(configs.to_dict(run.config)),
        "clips": run.spec.to_dict(),
        "step": run.step,
        "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(weights).hexdigest()},
        "versions": versions(),
    }
    results = results_of(run)
    about_it = card.text(function, name or folder.name, license, about, results)
    if results:
        write_whole(folder / RESULTS, json.dumps(results, indent=2))
    (folder / WEIGHTS).write_bytes(weights)
    write_whole(folder / CARD, about_it)
    write_whole(folder / CONFIG, json.dumps(values, indent=2))
    return folder


def is_folder(path: epath.Path) -> bool:
    """Whether it is one that `to_folder` wrote, whole or not."""
    if not (path / CONFIG).exists():
        return False
    return (path / WEIGHTS).exists() or _values(path).get("format") == "stjax"


def read_folder(folder: str | epath.Path, *, own_code: bool = True) -> Run:
    """The model in a folder.

    Args:
      folder: of `to_folder`.
      own_code: whether its config may name a Linen module that is not one of stjax.

    Raises:
      UserError: files are missing, damaged, of a newer stjax or do not fit together.
    """
    folder = epath.Path(folder)
    values = _values(folder)
    version = values.get("format_version")
    if values.get("format") != "stjax" or not isinstance(version, int):
        raise UserError(f"{folder}/{CONFIG} does not describe a model of stjax")
    if version > FORMAT:
        raise UserError(
            f"{folder} has format {version}, this stjax reads up to {FORMAT};"
            " pip install -U stjax"
        )
    config = configs.from_dict(values["config"])
    if not own_code and ":" in config.model.name:
        raise UserError(
            f"{folder} runs code of its own, {config.model.name}; read it, then load"
            " the folder by its path"
        )
    flat = _weights(folder, values["weights"]["sha256"])
    spec = spec_from_dict(values["clips"])
    return fitted(folder, config, spec, flat, values["step"])


def fitted(path, config, spec, flat: dict, step: int) -> Run:
    """A run from weights by their paths.

    Raises:
      UserError: they do not fit the config's model.
    """
    model = build_model(config, spec)
    like = jax.eval_shape(lambda: init_variables(model, spec, config.seed))
    want = flax.traverse_util.flatten_dict(unstack(like), sep=".")
    found = differences(
        {name: value.shape for name, value in flat.items()},
        {name: leaf.shape for name, leaf in want.items()},
    )
    if found:
        more = f"; and {len(found) - 2} more" if len(found) > 2 else ""
        raise UserError(
            f"the weights of {path} do not fit its config: {'; '.join(found[:2])}{more}"
        )
    made = {name: jnp.asarray(flat[name], leaf.dtype) for name, leaf in want.items()}
    tree = flax.traverse_util.unflatten_dict(made, sep=".")
    return Run(epath.Path(path), config, spec, model, stack(tree, like), step)


def flat_variables(variables: dict) -> dict[str, np.ndarray]:
    """Variables by their paths, block by block."""
    tree = unstack(flax.core.unfreeze(variables))
    flat = flax.traverse_util.flatten_dict(tree, sep=".")
    return {name: np.ascontiguousarray(flat[name]) for name in sorted(flat)}


def _halved(flat: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels in float16; scales, biases and statistics as they are."""
    made = {}
    for name, value in flat.items():
        small = value.ndim < 2 or value.dtype != np.float32
        if not small and np.abs(value).max() > np.finfo(np.float16).max:
            raise UserError(f"{name} is too large for float16; export without half")
        made[name] = value if small else value.astype(np.float16)
    return made


def results_of(run: Run) -> dict | None:
    """results.json beside the weights, if it is about them."""
    path = epath.Path(run.workdir) / RESULTS
    if not path.exists():
        return None
    results = json.loads(path.read_text())
    return results if results.get("best_step", run.step) == run.step else None


def _values(folder: epath.Path) -> dict:
    path = folder / CONFIG
    if not path.exists():
        raise UserError(f"{folder} has no {CONFIG}; give the folder of an export")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); copy it again") from None
    return values if isinstance(values, dict) else {}


def _weights(folder: epath.Path, checksum: str) -> dict[str, np.ndarray]:
    path = folder / WEIGHTS
    if not path.exists():
        raise UserError(f"{folder} has no {WEIGHTS}; copy the whole folder")
    content = path.read_bytes()
    try:
        flat = safetensors.load(content)
    except SafetensorError as error:
        raise UserError(
            f"{path} is cut off or damaged ({error}); copy it again"
        ) from None
    got = hashlib.sha256(content).hexdigest()
    if got != checksum:
        raise UserError(
            f"{path} has the SHA-256 {got[:12]}..., {CONFIG} says {checksum[:12]}...;"
            " they are not of the same export, or damaged"
        )
    return flat


def public(values: dict) -> dict:
    """A config without paths of the machine it was used on."""
    data = {k: None if _is_place(v) else v for k, v in values["data"].items()}
    train = values["train"] | {"init_from": None, "init_labels": None}
    return values | {"data": data | {"path": None}, "train": train}


def _is_place(value: object) -> bool:
    return isinstance(value, str) and (value.startswith(("/", "~")) or "://" in value)
