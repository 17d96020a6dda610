"""The workdir of a run: what it holds besides checkpoints, and loading its model."""

import dataclasses
import importlib.util
import json

import flax
import jax
import ml_collections
import optax
import orbax.checkpoint as ocp
from etils import epath
from flax import linen as nn

from stjax import __version__
from stjax import config as configs
from stjax.data.base import Spec, spec_from_dict
from stjax.errors import UserError
from stjax.sharding.mesh import make_mesh, replicated
from stjax.training.checkpoint import Checkpoints, Step
from stjax.training.state import build_model, init_variables, placed
from stjax.training.writer import write_whole


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {
        "stjax": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "orbax": ocp.__version__,
    }


def check_storage(workdir: str | epath.Path) -> None:
    """Raises a `UserError` unless this installation can write to the workdir's kind.

    Google Cloud Storage needs gcsfs (or TensorFlow, which brings its own client).
    """
    found = any(importlib.util.find_spec(name) for name in ("gcsfs", "tensorflow"))
    if str(workdir).startswith("gs:") and not found:
        raise UserError(
            f"{workdir} is on Google Cloud Storage, which needs gcsfs:"
            " pip install 'stjax[gcs]'"
        )


def describe(
    workdir: str | epath.Path, config: ml_collections.ConfigDict, spec: Spec
) -> None:
    """Writes config.json: the config and what the clips look like.

    Raises:
      UserError: the workdir holds a run (a checkpoint) with another config.
    """
    path = epath.Path(workdir) / "config.json"
    values = {"config": configs.to_dict(config), "clips": spec.to_dict()}
    values = json.loads(json.dumps(values))
    if path.exists():
        old = json.loads(path.read_text())
        # Fields that did not exist then get their defaults.
        old["config"] = configs.to_dict(configs.from_dict(old["config"]))
        found = configs.difference(
            old["config"] | {"clips": old["clips"]},
            values["config"] | {"clips": values["clips"]},
        )
        if found and Checkpoints.exist(workdir):
            raise UserError(
                f"{workdir} holds a run with another config ({found}); go on with its"
                " own config or choose a new workdir"
            )
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(values | {"versions": versions()}, indent=2))


def description(
    workdir: str | epath.Path,
) -> tuple[ml_collections.ConfigDict, Spec]:
    """What `describe` has written.

    Raises:
      UserError: the workdir is not one of a run, or cannot be read here.
    """
    check_storage(workdir)
    path = epath.Path(workdir) / "config.json"
    if not path.exists():
        raise UserError(f"{workdir} has no config.json; give the workdir of a training")
    values = json.loads(path.read_text())
    return configs.from_dict(values["config"]), spec_from_dict(values["clips"])


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model, out of a workdir.

    Attributes:
      workdir: where it comes from.
      config: it was trained with.
      spec: of its clips.
      model: the module.
      variables: for ``model.apply``.
      step: of the checkpoint.
    """

    workdir: epath.Path
    config: ml_collections.ConfigDict
    spec: Spec
    model: nn.Module
    variables: dict
    step: int


def load_run(
    workdir: str | epath.Path,
    step: Step = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Run:
    """Loads the model of a workdir: needs nothing but the workdir.

    Args:
      workdir: of `stjax.train`.
      step: "best" (the default), "last" or a number.
      mesh: where the variables go (replicated); one device by default.

    Raises:
      UserError: no run or no such checkpoint there, or it is of another model.
    """
    config, spec = description(workdir)
    model = build_model(config, spec)
    mesh = mesh or make_mesh(devices=jax.local_devices()[:1])
    abstract = jax.eval_shape(lambda: init_variables(model, spec, config.seed))
    abstract = placed(abstract, jax.tree.map(lambda _: replicated(mesh), abstract))
    # Whoever calls may compute on another mesh (`train.init_from`).
    with Checkpoints(workdir) as checkpoints, jax.set_mesh(mesh):
        step, variables = checkpoints.restore_variables(abstract, step)
    return Run(epath.Path(workdir), config, spec, model, variables, step)
