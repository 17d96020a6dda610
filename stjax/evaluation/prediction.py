"""How good a predictor is on a split, next to trivial predictions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen as nn

from stjax.compiling import compiler_options
from stjax.data.base import ClipSpec, Source
from stjax.metrics import Metric, summarise
from stjax.scoring import HostPredict, create_baselines, create_metrics
from stjax.sharding.mesh import put_batch, replicated
from stjax.tasks.prediction import model_arrays
from stjax.training import inputs

# Sums of a metric over clips: (numerator [T], denominator [T]).
Sums = dict[str, dict[str, tuple[jax.Array, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class EvalStep:
    """``(variables, batch, still) -> Sums``, pure; a row for each prediction.

    Attributes:
      model: a predictor.
      spec: of the clips.
      metrics: by name.
    """

    model: nn.Module
    spec: ClipSpec
    metrics: dict[str, Metric]

    def __call__(self, variables: dict, batch: dict, still: dict) -> Sums:
        """Sums the metrics over the clips of a batch; weight 0 is padding.

        Args:
          variables: of the model.
          batch: as in training, and perhaps ``rows``: further predictions by name,
            [B, T_out, H, W, C_out] as a model would give them.
          still: frames by name [H, W, C_out], each a constant prediction; where there
            are any, the last input frame is one too. (Arguments, because XLA would
            compute metrics of constants while it compiles, for seconds.)
        """
        x, y = model_arrays(batch, self.spec)
        pred = self.model.apply(variables, x, frames=self.spec.t_out, train=False)
        rows = {"model": pred.astype(jnp.float32)}
        if still:
            last = x[:, -1:][..., np.array(self.spec.target_index)]
            for name, frame in {"last_frame": last, **still}.items():
                rows[name] = jnp.broadcast_to(frame, y.shape)
        rows |= batch.get("rows", {})
        real = batch["weight"] > 0
        measure = functools.partial(self._measure, y, batch.get("mask"), real)
        # One row after the other: compiled once, however many rows.
        sums = jax.lax.map(measure, jnp.stack(list(rows.values())))
        return {
            name: jax.tree.map(lambda row, i=i: row[i], sums)
            for i, name in enumerate(rows)
        }

    def clips(self, variables: dict, batch: dict) -> dict:
        """(numerator, denominator) [B, T_out] of each metric for every clip."""
        x, y = model_arrays(batch, self.spec)
        pred = self.model.apply(variables, x, frames=self.spec.t_out, train=False)
        real, pred = batch["weight"] > 0, pred.astype(jnp.float32)
        return self._pairs(y, batch.get("mask"), real, pred)

    def _measure(self, y, mask, real, pred) -> dict[str, tuple[jax.Array, jax.Array]]:
        pairs = self._pairs(y, mask, real, pred)
        return jax.tree.map(lambda pair: pair.sum(0), pairs)

    def _pairs(self, y, mask, real, pred) -> dict[str, tuple[jax.Array, jax.Array]]:
        if self.spec.metric_space == "raw":
            scale = np.float32(self.spec.target_scale)
            offset = np.float32(self.spec.target_offset)
            pred, y = pred * scale + offset, y * scale + offset

        def counted(pairs):  # where, not times: 0 * inf is NaN
            return jnp.where(real[:, None], pairs, 0.0)

        return {
            name: jax.tree.map(counted, tuple(metric.fn(pred, y, mask=mask)))
            for name, metric in self.metrics.items()
        }


class Evaluator:
    """Evaluates variables on one split, again and again."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        model: nn.Module,
        source: Source,
        mesh: jax.sharding.Mesh,
        train_source: Source | None = None,
        metrics: dict[str, Metric] | None = None,
    ):
        """Opens a split.

        Args:
          config: its ``data`` section, ``baselines`` and seed are used, and
            ``metrics`` where they are not given.
          model: a predictor.
          source: the split.
          mesh: the batches are spread over.
          train_source: for the mean training frame; with it, trivial predictions are
            measured beside the model, and those of ``config.baselines``.
          metrics: of `stjax.scoring.create_metrics`.

        Raises:
          UserError: see `create_metrics` and `create_baselines` there.
        """
        self._config, self._spec, self._mesh = config, source.spec, mesh
        if metrics is None:
            metrics = create_metrics(config.metrics, train_source or source)
        self._metrics = metrics
        self._dataset = inputs.make_dataset(config, source, train=False)
        self._clips = len(source)
        self._still: dict[str, np.ndarray] = {}
        self._baselines: dict[str, HostPredict] = {}
        if train_source is not None:
            mean = inputs.mean_target_frame(train_source, seed=config.seed)
            self._still = {"black": np.zeros_like(mean), "mean_training_frame": mean}
            self._baselines = create_baselines(config.baselines, source.spec)
        step = EvalStep(model, source.spec, metrics)
        options = compiler_options(mesh)
        jit = functools.partial(
            jax.jit, out_shardings=replicated(mesh), compiler_options=options
        )
        self._step, self._each = jit(step.__call__), jit(step.clips)

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
                rows = put_batch(self._mesh, self._predicted(batch))
                batch = put_batch(self._mesh, batch) | ({"rows": rows} if rows else {})
                now = self._step(variables, batch, self._still), batch["weight"].sum()
                if late is not None:
                    sums.append(jax.device_get(late[0]))
                    clips += float(late[1])
                late = now
            sums.append(jax.device_get(late[0]))
            clips += float(late[1])
        return self._report(sums, round(clips))

    def pairs(self, variables: dict) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """(numerator, denominator) [N, T_out] of each metric, clip by clip.

        A clip that could not be read, or fills up the last batch, has zeros.
        """
        found, late = [], None  # as above
        with (
            jax.set_mesh(self._mesh),
            inputs.batches(self._config, self._dataset) as batches,
        ):
            for batch in batches:
                now = self._each(variables, put_batch(self._mesh, batch))
                if late is not None:
                    found.append(jax.device_get(late))
                late = now
        found.append(jax.device_get(late))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)

    def _predicted(self, batch: dict) -> dict[str, np.ndarray]:
        """The predictions of the baselines that are computed on the host."""
        spec, rows = self._spec, {}
        offset, scale = np.float32(spec.target_offset), np.float32(spec.target_scale)
        real = batch["weight"] > 0
        for name, predict in self._baselines.items():
            rows[name] = np.zeros((len(real), *spec.target_shape), np.float32)
            if real.any():
                x = batch["input"][real][..., list(spec.target_index)]
                rows[name][real] = (predict(x, spec.t_out) - offset) / scale
        return rows

    def _report(self, sums: list[Sums], clips: int) -> dict:
        values, curves = {}, {}
        for row in sums[0]:
            values[row], curves[row] = {}, {}
            for name in self._metrics:
                numerator = np.stack([s[row][name][0] for s in sums])
                denominator = np.stack([s[row][name][1] for s in sums])
                found = summarise(numerator, denominator, self._metrics[name])
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
