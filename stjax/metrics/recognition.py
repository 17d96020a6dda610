"""Metrics of recognition, over a whole split: scores and targets [N, K] → a number.

Scores may be logits or probabilities: only their order counts. Targets are 1 for the
classes that a clip shows, 0 for the others. Of classes with the same score each is as
likely to stand first: a tie counts in part, so that a constant score is right on 1/K of
the clips, whatever the order of the classes. NaN is never right.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from stjax.data.base import LabelSpec
from stjax.errors import UserError, unknown


class RecognitionMetric(NamedTuple):
    """``f(scores, targets) -> number``, and which way is up."""

    fn: Callable[[np.ndarray, np.ndarray], float]
    higher_is_better: bool = True


def top1(scores: np.ndarray, targets: np.ndarray) -> float:
    """Share of the clips whose true class scores highest; targets one-hot."""
    return _mean(_among(1, scores, targets))


def top5(scores: np.ndarray, targets: np.ndarray) -> float:
    """Share of the clips with less than 5 classes before the true one.

    1 for up to 5 classes. Targets one-hot.
    """
    return _mean(_among(5, scores, targets))


def mean_class_accuracy(scores: np.ndarray, targets: np.ndarray) -> float:
    """`top1` of each class's clips, mean over the classes that have clips."""
    right = _among(1, scores, targets)
    counts = targets.sum(0)
    there = counts > 0
    return _mean((targets * right[:, None]).sum(0)[there] / counts[there])


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Average precision of each class, mean over the classes that occur; mAP.

    The average precision is the precision at the score of each clip that shows the
    class, averaged over these clips: without ties that of ``Charades_v1_classify``
    (THUMOS), with them that of scikit-learn's ``average_precision_score``. As in
    PySlowFast, classes without a clip are left out, and clips without a label count as
    clips of no class. Targets multi-hot.
    """
    columns = zip(np.asarray(scores).T, np.asarray(targets).T, strict=True)
    return _mean([_average_precision(s, t > 0) for s, t in columns if t.any()])


def confusion_matrix(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Clips by true class (rows) and class of the highest score, [K, K] counts.

    Of classes with the same score the first one counts. Targets one-hot.
    """
    k = targets.shape[1]
    guess = np.argmax(np.nan_to_num(scores, nan=-np.inf), 1)
    pairs = np.argmax(targets, 1) * k + guess
    return np.bincount(pairs, minlength=k * k).reshape(k, k)


RECOGNITION_METRICS = {
    "top1": RecognitionMetric(top1),
    "top5": RecognitionMetric(top5),
    "mean_class_accuracy": RecognitionMetric(mean_class_accuracy),
    "map": RecognitionMetric(mean_average_precision),
}


def create_recognition_metrics(
    names: Sequence[str], spec: LabelSpec
) -> dict[str, RecognitionMetric]:
    """The metrics of a config, in its order.

    Args:
      names: of `RECOGNITION_METRICS`. None at all: those that suit the data, ``map``
        for clips with several labels; else ``top1``, ``top5`` where there are more than
        5 classes, and ``mean_class_accuracy``.
      spec: of the clips.

    Raises:
      UserError: an unknown name, or one that needs a single label a clip.
    """
    if not names:
        names = ["top1", "top5", "mean_class_accuracy"]
        if len(spec.classes) <= 5:
            names.remove("top5")
        if spec.multi_label:
            names = ["map"]
    for name in names:
        if name not in RECOGNITION_METRICS:
            raise unknown("metric", name, RECOGNITION_METRICS)
        if spec.multi_label and name != "map":
            raise UserError(
                f"metric {name!r} needs one label a clip, but these have several: "
                "metrics=('map',)"
            )
    return {name: RECOGNITION_METRICS[name] for name in names}


def _among(k: int, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How likely the true class is among the first k, [N]; 0 or 1 but for ties."""
    scores = np.asarray(scores)
    true = np.take_along_axis(scores, np.argmax(targets, 1)[:, None], 1)
    same = (scores == true).sum(1)
    before = (~(scores <= true)).sum(1)  # NaN among them
    return np.clip((k - before) / np.maximum(same, 1), 0, 1) * (same > 0)


def _average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    scores = np.nan_to_num(scores, nan=-np.inf)
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(positive[order])
    # Clips of the same score come together: the count is that after the last of them.
    last = np.searchsorted(-scores, -scores, side="right")
    precision = hits[last - 1] / last
    return precision[positive[order]].mean()


def _mean(values: np.ndarray) -> float:
    """NaN where there is nothing to average."""
    values = np.asarray(values, np.float64)
    return float(values.mean()) if values.size else float("nan")
