"""What is measured: the metrics and the extra baselines that a config names."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from stjax import baselines
from stjax.data.base import ClipSpec, LabelSpec, Source, Spec
from stjax.errors import UserError, unknown
from stjax.metrics import METRICS, Metric, create_metric

# Metrics of pictures (sums over a frame, as the benchmarks publish them), and of
# values with units (means over a frame).
PICTURES = ("mse", "mae", "psnr", "ssim", "ssim_range2")
VALUES = ("mse_mean", "mae_mean", "rmse_mean")

# Name in `config.baselines` -> row in the results.
BASELINES = {"lagrangian": "lagrangian_persistence"}

HostPredict = Callable[[np.ndarray, int], np.ndarray]


def metric_specs(texts: Iterable[str], spec: ClipSpec) -> tuple[str, ...]:
    """The metrics to measure, each as `stjax.metrics.create_metric` reads it.

    Args:
      texts: `config.metrics`; a text may hold several metrics with commas between,
        as in ``"mse,fss:threshold=0.5,window=9"``. None at all: those that suit the
        clips.
      spec: of the clips.
    """
    text = ",".join(texts)
    if not text:
        return PICTURES if spec.metric_space == "model" else VALUES
    found = []
    for item in text.split(","):
        # An option (key=value) belongs to the metric before it.
        if found and re.match(r"[^:]*=", item):
            found[-1] += f",{item}"
        else:
            found.append(item.strip())
    return tuple(found)


def create_metrics(texts: Iterable[str], source: Source) -> dict[str, Metric]:
    """The metrics of a config by their names, tried on frames of the right shape.

    Of labelled clips they are those of `stjax.metrics.recognition`.

    The first that tells better from worse chooses the best checkpoint. Values are in
    `ClipSpec.metric_space`: thresholds are in the units of the data ("raw"), or in
    what the model sees, [0, 1] for pictures ("model").

    Args:
      texts: see `metric_specs`.
      source: the training split, whose ``latitude`` and ``climatology`` are used by
        metrics that need them.

    Raises:
      UserError: an unknown metric or option; frames that it cannot measure; or the
        source lacks what it needs.
    """
    spec = source.spec
    if isinstance(spec, LabelSpec):
        from stjax.metrics.recognition import create_recognition_metrics

        names = [name for text in texts for name in text.split(",")]
        return create_recognition_metrics(names, spec)
    found = {name: _bound(name, source) for name in metric_specs(texts, spec)}
    if all(metric.higher_is_better is None for metric in found.values()):
        raise UserError(
            f"metrics {', '.join(found)}: none of them tells which of two models is"
            " better; add one, such as mse"
        )
    frames = jax.ShapeDtypeStruct((1, *spec.target_shape), jnp.float32)
    for metric in found.values():
        jax.eval_shape(metric.fn, frames, frames)
    return found


def _bound(text: str, source: Source) -> Metric:
    """One metric, with the arrays that a text cannot carry."""
    name, _, options = text.partition(":")
    fields = {}
    if name in METRICS:
        wanted = inspect.signature(METRICS[name].fn).parameters
        for key in {"latitude", "climatology"} & wanted.keys():
            fields[key] = getattr(source, key, None)
            if fields[key] is None and wanted[key].default is inspect.Parameter.empty:
                raise UserError(
                    f"metric {name!r} needs the {key} of the grid, which this data"
                    " source does not tell; NetCDF and Zarr files with a latitude do."
                    " Leave the metric out"
                )
    if fields.get("climatology") is not None:
        scale = np.float32(source.spec.target_scale)
        offset = np.float32(source.spec.target_offset)
        usual = fields["climatology"]
        usual = np.where(np.isfinite(usual), usual, offset)  # no training value there
        in_raw = source.spec.metric_space == "raw"
        fields["climatology"] = usual if in_raw else (usual - offset) / scale
    return create_metric(text, **fields)


def error_of(metrics: dict[str, Metric], values: dict[str, float]) -> float:
    """What the best checkpoint has least of, from the first metric with a direction."""
    for name, metric in metrics.items():
        if metric.higher_is_better is not None:
            return -values[name] if metric.higher_is_better else values[name]
    raise ValueError("no metric with a direction")  # `create_metrics` has seen to it


def create_baselines(texts: Iterable[str], spec: Spec) -> dict[str, HostPredict]:
    """The baselines of a config: row -> ``(raw input, frames) -> raw prediction``.

    They are computed on the host, in the raw units of the data. Persistence and the
    other constant predictions are in every result anyway.

    Args:
      texts: "lagrangian", or "lagrangian:method=NAME" for another motion field of
        pysteps.
      spec: of the clips.

    Raises:
      UserError: an unknown baseline, or it lacks a package or a second input frame,
        or the clips are labelled.
    """
    found = {}
    if texts and isinstance(spec, LabelSpec):
        raise UserError("baselines are of predicted frames; these clips have labels")
    for text in texts:
        name, _, method = text.partition(":method=")
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES)
        baselines.import_pysteps()
        if spec.t_in < 2:
            raise UserError(
                "baseline 'lagrangian' needs 2 or more input frames to see a motion,"
                f" data.t_in is {spec.t_in}"
            )
        fields = {"method": method} if method else {}
        found[BASELINES[name]] = functools.partial(
            baselines.lagrangian_persistence, **fields
        )
    return found
