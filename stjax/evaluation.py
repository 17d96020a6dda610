"""How good a model is on a split, next to trivial predictions."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epath
from flax import linen as nn

from stjax.data.base import ClipSpec, Source
from stjax.errors import UserError
from stjax.metrics import METRICS, summarise
from stjax.sharding.mesh import make_mesh, put_batch, replicated
from stjax.training import inputs
from stjax.training.checkpoint import Step
from stjax.training.step import model_arrays
from stjax.training.workdir import load_run

# Metrics of pictures (sums over a frame, as the benchmarks publish them), and of
# values with units (means over a frame).
PICTURES = ("mse", "mae", "psnr", "ssim", "ssim_range2")
VALUES = ("mse_mean", "mae_mean", "rmse_mean")

# Sums of a metric over clips: (numerator [T], denominator [T]).
Sums = dict[str, dict[str, tuple[jax.Array, jax.Array]]]


def metric_names(spec: ClipSpec) -> tuple[str, ...]:
    """The metrics that suit the clips; the first one chooses the best checkpoint."""
    return PICTURES if spec.metric_space == "model" else VALUES


@dataclasses.dataclass(frozen=True)
class EvalStep:
    """``(variables, batch, mean_frame) -> Sums``, pure; a row for each prediction.

    Attributes:
      model: a predictor.
      spec: of the clips.
      trivial: also the rows "last_frame", "black" and "mean_training_frame".
    """

    model: nn.Module
    spec: ClipSpec
    trivial: bool

    def __call__(self, variables: dict, batch: dict, mean_frame: jax.Array) -> Sums:
        """Sums the metrics over the clips of a batch; weight 0 is padding."""
        x, y = model_arrays(batch, self.spec)
        pred = self.model.apply(variables, x, frames=self.spec.t_out, train=False)
        rows = {"model": pred.astype(jnp.float32)}
        if self.trivial:
            last = x[:, -1:][..., np.array(self.spec.target_index)]
            rows |= {
                "last_frame": jnp.broadcast_to(last, y.shape),
                "black": jnp.zeros_like(y),
                "mean_training_frame": jnp.broadcast_to(mean_frame, y.shape),
            }
        real = batch["weight"] > 0
        measure = functools.partial(self._measure, y, batch.get("mask"), real)
        # One row after the other: compiled once, however many rows.
        sums = jax.lax.map(measure, jnp.stack(list(rows.values())))
        return {
            name: jax.tree.map(lambda row, i=i: row[i], sums)
            for i, name in enumerate(rows)
        }

    def _measure(self, y, mask, real, pred) -> dict[str, tuple[jax.Array, jax.Array]]:
        if self.spec.metric_space == "raw":
            scale = np.float32(self.spec.target_scale)
            offset = np.float32(self.spec.target_offset)
            pred, y = pred * scale + offset, y * scale + offset

        def total(pairs):  # where, not times: 0 * inf is NaN
            return jnp.where(real[:, None], pairs, 0.0).sum(0)

        sums = {}
        for name in metric_names(self.spec):
            numerator, denominator = METRICS[name].fn(pred, y, mask=mask)
            sums[name] = total(numerator), total(denominator)
        return sums


class Evaluator:
    """Evaluates variables on one split, again and again."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        model: nn.Module,
        source: Source,
        mesh: jax.sharding.Mesh,
        train_source: Source | None = None,
    ):
        """Opens a split.

        Args:
          config: its ``data`` section and seed are used.
          model: a predictor.
          source: the split.
          mesh: the batches are spread over.
          train_source: for the mean training frame; with it, trivial predictions are
            measured beside the model.
        """
        self._config, self._spec, self._mesh = config, source.spec, mesh
        self._dataset = inputs.make_dataset(config, source, train=False)
        self._clips = len(source)
        self._mean = np.zeros(source.spec.target_shape[1:], np.float32)
        if train_source is not None:
            self._mean = inputs.mean_target_frame(train_source, seed=config.seed)
        step = EvalStep(model, source.spec, trivial=train_source is not None)
        self._step = jax.jit(step.__call__, out_shardings=replicated(mesh))

    def __call__(self, variables: dict) -> dict:
        """Every clip once.

        Returns:
          ``metrics`` {name: value}, ``per_frame`` {name: [T_out]}, ``clips`` measured
          and ``skipped`` (they could not be read); with trivial predictions also
          ``baselines`` {row: metrics} and ``baselines_per_frame``.
        """
        sums, clips = [], 0.0
        with (
            jax.set_mesh(self._mesh),
            inputs.batches(self._config, self._dataset) as batches,
        ):
            late = None  # fetched one batch late, so that the device never waits
            for batch in batches:
                batch = put_batch(self._mesh, batch)
                now = self._step(variables, batch, self._mean), batch["weight"].sum()
                if late is not None:
                    sums.append(jax.device_get(late[0]))
                    clips += float(late[1])
                late = now
            sums.append(jax.device_get(late[0]))
            clips += float(late[1])
        return self._report(sums, round(clips))

    def _report(self, sums: list[Sums], clips: int) -> dict:
        values, curves = {}, {}
        for row in sums[0]:
            values[row], curves[row] = {}, {}
            for name in sums[0][row]:
                numerator = np.stack([s[row][name][0] for s in sums])
                denominator = np.stack([s[row][name][1] for s in sums])
                found = summarise(numerator, denominator, METRICS[name])
                values[row][name] = float(found.value)
                curves[row][name] = [float(v) for v in found.curve]
        report = {
            "metrics": values.pop("model"),
            "per_frame": curves.pop("model"),
            "clips": clips,
            "skipped": self._clips - clips,
        }
        if values:
            report |= {"baselines": values, "baselines_per_frame": curves}
        return report


def evaluate(
    workdir: str | epath.Path, split: str = "test", step: Step = None
) -> dict[str, object]:
    """Evaluates a trained model; needs nothing but its workdir (and the data).

    Args:
      workdir: of `stjax.train`.
      split: "train", "validation" or "test".
      step: of the checkpoint: "best" (the default), "last" or a number.

    Returns:
      As `Evaluator`, with ``split`` and ``step``. Metrics of pictures are sums over a
      frame (MSE, MAE), PSNR, and SSIM with data range 1 and 2; those of values with
      units are means over a frame, in these units.

    Raises:
      UserError: no such run, checkpoint, split or data.
    """
    devices = jax.devices()
    run = load_run(workdir, step)
    if jax.process_count() == 1:
        # As many devices as can share a batch; training may have had others.
        devices = devices[: math.gcd(run.config.data.batch, len(devices))]
    mesh = make_mesh(devices=devices)
    source = inputs.open_split(run.config, split)
    if source.spec != run.spec:
        raise UserError(
            f"the clips of the {split} split are {source.spec}, but the model of"
            f" {workdir} was trained on {run.spec}; check the data source"
        )
    train_source = inputs.open_split(run.config, "train")
    evaluator = Evaluator(run.config, run.model, source, mesh, train_source)
    variables = jax.device_put(run.variables, replicated(mesh))
    return evaluator(variables) | {"split": split, "step": run.step}
