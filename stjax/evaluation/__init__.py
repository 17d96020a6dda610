"""How good a model is on a split, next to trivial answers."""

import importlib
import math
from collections.abc import Callable, Sequence

import jax
import ml_collections
from etils import epath
from flax import linen as nn

from stjax.data.base import LabelSpec, Source
from stjax.errors import UserError
from stjax.sharding.mesh import make_mesh
from stjax.training import inputs
from stjax.training.checkpoint import Step
from stjax.training.workdir import description, load_run


def create_evaluator(
    config: ml_collections.ConfigDict,
    model: nn.Module,
    source: Source,
    mesh: jax.sharding.Mesh,
    train_source: Source | None = None,
    metrics: dict | None = None,
) -> Callable[[dict], dict]:
    """Measures variables on one split, again and again: ``evaluator(variables)``.

    Args:
      config: its ``data`` section, ``metrics``, ``baselines`` and seed are used.
      model: a predictor or recogniser, as the clips are.
      source: the split.
      mesh: the batches are spread over.
      train_source: with it, trivial answers are measured beside the model.
      metrics: in place of the config's.
    """
    name = "recognition" if isinstance(source.spec, LabelSpec) else "prediction"
    kind = importlib.import_module(f"stjax.evaluation.{name}")
    return kind.Evaluator(config, model, source, mesh, train_source, metrics)


def evaluate(
    workdir: str | epath.Path,
    split: str = "test",
    step: Step = None,
    metrics: Sequence[str] | None = None,
    baselines: Sequence[str] | None = None,
) -> dict[str, object]:
    """Evaluates a trained model; needs nothing but its workdir (and the data).

    Args:
      workdir: of `stjax.train`.
      split: "train", "validation" or "test".
      step: of the checkpoint: "best" (the default), "last" or a number.
      metrics: in place of the config's, such as ("mse", "csi:threshold=0.5").
      baselines: in place of the config's.

    Returns:
      As the evaluator, with ``split`` and ``step``. Metrics of predicted pictures are
      sums over a frame (MSE, MAE), PSNR, and SSIM with data range 1 and 2; those of
      values with units are means over a frame, in these units.

    Raises:
      UserError: no such run, checkpoint, split or data.
    """
    mesh = make_mesh(devices=usable_devices(description(workdir)[0].data.batch))
    run = load_run(workdir, step, mesh)
    config = run.config.copy_and_resolve_references()
    for field, value in (("metrics", metrics), ("baselines", baselines)):
        if value is not None:
            config[field] = tuple(value)
    source = inputs.open_split(config, split)
    if not source.spec.fits(run.spec):
        raise UserError(
            f"the clips of the {split} split are {source.spec}, but the model of"
            f" {workdir} was trained on {run.spec}; check the data source"
        )
    train_source = inputs.open_split(config, "train")
    evaluator = create_evaluator(config, run.model, source, mesh, train_source)
    return evaluator(run.variables) | {"split": split, "step": run.step}


def usable_devices(batch: int) -> list[jax.Device]:
    """As many of each host as can share a batch; training may have had others."""
    hosts = [[] for _ in range(jax.process_count())]
    for device in jax.devices():
        hosts[device.process_index].append(device)
    share = math.gcd(batch // len(hosts), len(hosts[0])) or 1
    return [device for host in hosts for device in host[:share]]
