"""How good a recogniser is on a split: every clip in all its views."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen as nn
from scipy.special import expit, softmax

from stjax.compiling import compiler_options
from stjax.data.base import LabelSpec, Source
from stjax.metrics.recognition import confusion_matrix
from stjax.scoring import create_metrics
from stjax.sharding.mesh import put_batch, replicated
from stjax.tasks import normalise
from stjax.training import inputs


def aggregate(logits: np.ndarray, spec: LabelSpec) -> np.ndarray:
    """One score for each class from the views of a clip, see `LabelSpec.aggregate`.

    Args:
      logits: [..., V, K].
      spec: of the clips.

    Returns:
      [..., K] probabilities.
    """
    probability = expit if spec.multi_label else lambda x: softmax(x, axis=-1)
    if spec.aggregate == "logits":
        return probability(logits.mean(-2))
    if spec.aggregate == "max":
        return probability(logits).max(-2)
    return probability(logits).mean(-2)


class Evaluator:
    """Evaluates variables on one split, again and again."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        model: nn.Module,
        source: Source,
        mesh: jax.sharding.Mesh,
        train_source: Source | None = None,
        metrics: dict | None = None,
    ):
        """Opens a split; arguments as in `stjax.evaluation.create_evaluator`."""
        self._config, self._model, self._mesh = config, model, mesh
        self._spec: LabelSpec = source.spec
        self._metrics = metrics or create_metrics(config.metrics, source)
        self._dataset = inputs.make_dataset(config, source, train=False)
        self._clips = len(source)
        # [K]: how often the classes are in training, if that can be told.
        self._usual = getattr(train_source, "class_frequency", None)
        self._step = jax.jit(
            self._forward,
            out_shardings=replicated(mesh),
            compiler_options=compiler_options(mesh),
        )
        self._gather = jax.jit(lambda x: x, out_shardings=replicated(mesh))

    def __call__(self, variables: dict) -> dict:
        """Every clip once.

        Returns:
          ``metrics`` {name: value}, ``clips`` measured and ``skipped`` (they could not
          be read); of clips with one class ``confusion`` [K][K], how many of a class
          (row) were taken for which (column); with a training split that tells its
          ``class_frequency`` also ``baselines``: always the most frequent class.
        """
        scores, targets = self.scores(variables)
        report = {
            "metrics": self._measure(scores, targets),
            "clips": len(scores),
            "skipped": self._clips - len(scores),
            "classes": list(self._spec.classes),
        }
        if not self._spec.multi_label:
            report["confusion"] = confusion_matrix(scores, targets).tolist()
        if self._usual is not None:
            usual = np.broadcast_to(self._usual, scores.shape)
            row = {"most_frequent_class": self._measure(usual, targets)}
            report["baselines"] = row
        return report

    def scores(self, variables: dict) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and truth of every clip that could be read, [N, K] each."""
        found, late = [], None
        with (
            jax.set_mesh(self._mesh),
            inputs.batches(self._config, self._dataset) as batches,
        ):
            for batch in batches:
                now = self._start(variables, batch)
                if late is not None:
                    found.append(jax.device_get(late))
                late = now
        found.append(jax.device_get(late))
        scores, targets = [], []
        for logits, target, weight in found:
            real = weight > 0
            scores.append(aggregate(np.stack(logits, axis=1), self._spec)[real])
            targets.append(target[real])
        return np.concatenate(scores), np.concatenate(targets)

    def _start(self, variables: dict, batch: dict) -> tuple:
        """The logits of each view, the targets and weights, over all hosts."""
        views = batch.pop("input")
        rest = put_batch(self._mesh, batch)
        logits = []
        for v in range(views.shape[1]):  # one view at a time: memory of one
            x = put_batch(self._mesh, {"input": views[:, v]})["input"]
            logits.append(self._step(variables, x))
        return logits, self._gather(rest["target"]), self._gather(rest["weight"])

    def _forward(self, variables: dict, x: jax.Array) -> jax.Array:
        x = normalise(x, self._spec.offset, self._spec.scale)
        return self._model.apply(variables, x, train=False).astype(jnp.float32)

    def _measure(self, scores: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return {
            name: float(metric.fn(scores, targets))
            for name, metric in self._metrics.items()
        }
