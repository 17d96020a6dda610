"""How good strategies are with the weights of their template."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from flax import linen as nn

from stjax.data.base import LabelSpec, Source, Spec
from stjax.evaluation import create_evaluator, usable_devices
from stjax.layers.slots import hard_masks
from stjax.metrics import summarise
from stjax.scoring import create_metrics
from stjax.sharding.mesh import make_mesh, put_batch, replicated
from stjax.tasks import task_of
from stjax.training import inputs
from stjax.training.batch_stats import Recalibrator
from stjax.training.workdir import Run

_KEPT = 1 << 30  # bytes of clips that stay in memory from strategy to strategy
_GROUPS = 200


class Score(NamedTuple):
    """Of a strategy.

    Attributes:
      metrics: by name.
      errors: their standard errors, by clips.
      clips: measured.
    """

    metrics: dict[str, float]
    errors: dict[str, float]
    clips: int


@dataclasses.dataclass(frozen=True)
class Masked:
    """A model with slots whose masks are variables, in the collection ``masks``.

    So what takes a model and its variables (evaluation, batch statistics) takes a
    strategy with them, as an input of a function that is compiled once.

    Attributes:
      model: with slots.
    """

    model: nn.Module

    def apply(self, variables: dict, *args, mutable=(), **kwargs):
        """That of the model with these masks."""
        variables = dict(variables)
        masks = variables.pop("masks")
        mutable = [name for name in mutable if name != "masks"] or False
        found = self.model.apply(
            variables, *args, masks=masks, mutable=mutable, **kwargs
        )
        if mutable:
            return found[0], {**found[1], "masks": masks}
        return found

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)


class Remembered:
    """A source that reads every clip once; for evaluation, where clips are fixed."""

    def __init__(self, source: Source):
        self.source, self._clips = source, {}

    @property
    def spec(self) -> Spec:
        """The source's."""
        return self.source.spec

    def __len__(self) -> int:
        return len(self.source)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        if index not in self._clips:
            self._clips[index] = self.source.clip(index, rng)
        return dict(self._clips[index])

    def __getattr__(self, name: str):
        if name.startswith("_") or name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)


class Scorer:
    """``scorer(strategy) -> Score``, with inherited weights; compiled once."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        model: nn.Module,
        variables: dict,
        source: Source,
        mesh: jax.sharding.Mesh,
        batches: int = 0,
    ):
        """Opens what it needs.

        Args:
          config: of the template; its data, metrics and seed are used.
          model: with the paths of all strategies, without gates.
          variables: of the template.
          source: the split to measure on.
          mesh: the batches are spread over; the variables are replicated there.
          batches: of training clips, to measure the batch statistics of each strategy
            on; 0: those of the template stay, an average over its strategies.
        """
        self._slots, self._variables = model.slots, without_gates(variables)
        config = config.copy_and_resolve_references()
        if _size(source) <= _KEPT:
            source, config.data.workers = Remembered(source), 0
        self._mesh, self._source, self._config = mesh, source, config
        self.metrics = create_metrics(config.metrics, source)
        masked = Masked(model)
        self._evaluator = create_evaluator(
            config, masked, source, mesh, metrics=self.metrics
        )
        self._batches = batches if "batch_stats" in variables else 0
        if self._batches:
            self._some = _training_batches(config, self._batches)
            self._recalibrate = Recalibrator(
                _forward(config, masked, source.spec), replicated(mesh)
            )

    @property
    def statistics(self) -> str:
        """Which batch statistics strategies have, in words."""
        if "batch_stats" not in self._variables:
            return "the model has none"
        if not self._batches:
            return "those of the template"
        return f"measured for each on {self._batches} training batches"

    def __call__(self, strategy: Sequence[str]) -> Score:
        """The metrics of a strategy on all clips of the split."""
        variables = self.variables(strategy)
        return _score(self._evaluator, variables, self._source.spec, self.metrics)

    def variables(self, strategy: Sequence[str]) -> dict:
        """Those of the template, with masks and batch statistics of a strategy."""
        masks = jax.device_put(
            hard_masks(self._slots, strategy), replicated(self._mesh)
        )
        variables = {**self._variables, "masks": masks}
        if not self._batches:
            return variables
        with jax.set_mesh(self._mesh):
            batches = (put_batch(self._mesh, batch) for batch in self._some())
            return self._recalibrate(variables, batches)


def measured(run: Run, split: str) -> Score:
    """Of a trained model, on a split of its data."""
    mesh = make_mesh(devices=usable_devices(run.config.data.batch))
    source = inputs.open_split(run.config, split)
    metrics = create_metrics(run.config.metrics, source)
    evaluator = create_evaluator(run.config, run.model, source, mesh, metrics=metrics)
    variables = jax.device_put(run.variables, replicated(mesh))
    return _score(evaluator, variables, source.spec, metrics)


def _score(evaluator, variables: dict, spec: Spec, metrics: dict) -> Score:
    if isinstance(spec, LabelSpec):
        return _recognised(*evaluator.scores(variables), metrics)
    return _predicted(evaluator.pairs(variables), metrics)


def _recognised(scores: np.ndarray, targets: np.ndarray, metrics: dict) -> Score:
    values, errors = {}, {}
    for name, metric in metrics.items():
        values[name] = float(metric.fn(scores, targets))
        errors[name] = jackknife(
            lambda kept, f=metric.fn: f(scores[kept], targets[kept]), len(scores)
        )
    return Score(values, errors, len(scores))


def _predicted(pairs: dict, metrics: dict) -> Score:
    values, errors, clips = {}, {}, 0
    for name, metric in metrics.items():
        real = np.flatnonzero(pairs[name][1].any(1))
        top, bottom = (np.asarray(p, np.float64)[real] for p in pairs[name])
        values[name] = summarise(top, bottom, metric).value
        errors[name] = jackknife(
            lambda kept, t=top, b=bottom, m=metric: (
                summarise(t[kept], b[kept], m).value
            ),
            len(real),
        )
        clips = max(clips, len(real))
    return Score(values, errors, clips)


def without_gates(variables: dict) -> dict:
    """The variables of the template's network."""
    params = {k: v for k, v in variables["params"].items() if k != "gates"}
    return {**variables, "params": params}


def jackknife(value: Callable[[np.ndarray], float], count: int) -> float:
    """Standard error of a statistic of independent clips, leaving out some in turn.

    Exact for means of up to 200 clips; of more, groups of them are left out.

    Args:
      value: of the clips with these numbers.
      count: of clips.
    """
    groups = min(count, _GROUPS)
    if groups < 2:
        return math.nan
    group = np.random.default_rng(0).permutation(count) % groups
    found = np.array([value(np.flatnonzero(group != g)) for g in range(groups)])
    spread = np.square(found - found.mean()).sum()
    return float(np.sqrt((groups - 1) / groups * spread))


def recalibration(
    config: ml_collections.ConfigDict, model: nn.Module, spec: Spec, batches: int
) -> tuple[Callable[..., dict], Callable[[], Iterator[dict]]]:
    """The pass that measures batch statistics, and the batches that it measures."""
    return _forward(config, model, spec), _training_batches(config, batches)


def _forward(config, model, spec) -> Callable[..., dict]:
    objective = task_of(spec).Objective.create(config, model, spec).plain
    seed = config.seed

    def forward(variables, batch, index):
        rng = jax.random.fold_in(jax.random.key(seed), index)
        return objective(variables, batch, index, rng).collections

    return forward


def _training_batches(config, count: int) -> Callable[[], Iterator[dict]]:
    """The first batches of training, as often as one wants."""
    source = inputs.open_split(config, "train")
    dataset = inputs.make_dataset(config, source, train=True)

    def read() -> Iterator[dict]:
        with inputs.batches(config, dataset) as batches:
            for _ in range(count):
                yield next(batches)

    if _size(source) / len(source) * config.data.batch * count > _KEPT:
        return read
    kept = list(read())
    return lambda: iter(kept)


def _size(source: Source) -> int:
    """Bytes of all its clips."""
    arrays = source.spec.arrays.values()
    clip = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in arrays)
    return clip * len(source)
