"""Metrics of recognition, against results by hand."""

import numpy as np
import pytest

from stjax.data.base import LabelSpec
from stjax.errors import UserError
from stjax.metrics import recognition
from stjax.metrics.recognition import create_recognition_metrics

ONE = np.eye(6)[[0, 1, 2, 2]]
SCORES = np.array(
    [
        [0.5, 0.1, 0.1, 0.1, 0.1, 0.1],  # right
        [0.3, 0.2, 0.5, 0.0, 0.0, 0.0],  # third
        [6.0, 5.0, 1.0, 4.0, 3.0, 2.0],  # last
        [0.0, 0.0, 9.0, 0.0, 0.0, 0.0],  # right
    ]
)


def test_accuracies():
    assert recognition.top1(SCORES, ONE) == 0.5
    assert recognition.top5(SCORES, ONE) == 0.75
    # classes 0, 1 and 2: 1/1, 0/1, 1/2; the others do not occur
    assert recognition.mean_class_accuracy(SCORES, ONE) == 0.5
    assert recognition.top5(SCORES[:, :5], ONE[:, :5]) == 1.0


def test_a_tie_counts_in_part():
    constant = np.zeros((4, 6))
    assert recognition.top1(constant, ONE) == pytest.approx(1 / 6)
    assert recognition.mean_class_accuracy(constant, ONE) == pytest.approx(1 / 6)
    assert recognition.top5(constant, ONE) == pytest.approx(5 / 6)
    # One class before, then the true one and two more share places 2 to 4, or
    # (five before) 6 to 8.
    one = np.array([[9, 1, 1, 1, 0, 0, 0, 0]])
    five = np.array([[9, 9, 9, 1, 1, 1, 9, 9]])
    target = np.eye(8)[[3]]
    assert recognition.top1(one, target) == 0 and recognition.top5(one, target) == 1
    assert recognition.top5(five, target) == 0
    assert recognition.top5(five[:, 1:], target[:, 1:]) == pytest.approx(1 / 3)


def test_nan_is_never_right():
    nothing = np.full((4, 6), np.nan)
    for name in ("top1", "top5", "mean_class_accuracy"):
        assert getattr(recognition, name)(nothing, ONE) == 0
    assert recognition.top1(np.array([[1, np.nan]]), np.eye(2)[[0]]) == 0


def test_map_by_hand():
    targets = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    scores = np.array([[0.9, 0.8], [0.8, 0.2], [0.7, 0.9], [0.1, 0.1]])
    # class 0: found at places 1 and 3; class 1: at 1 and 3
    by_hand = (1 + 2 / 3) / 2
    assert recognition.mean_average_precision(scores, targets) == pytest.approx(by_hand)
    # the worst order of 4 with one positive
    worst = recognition.mean_average_precision(scores[:, :1], 1 * (scores[:, :1] < 0.5))
    assert worst == 0.25


def test_map_leaves_out_classes_without_clips():
    targets = np.array([[1, 0, 0], [0, 0, 1]])
    scores = np.array([[0.9, 0.5, 0.9], [0.1, 0.5, 0.1]])
    assert recognition.mean_average_precision(scores, targets) == (1 + 0.5) / 2
    assert np.isnan(recognition.mean_average_precision(scores, 0 * targets))


def test_map_of_ties_is_the_share_of_the_class():
    targets = np.array([[1], [0], [0], [1], [0]])
    for value in (0.5, np.nan):
        tied = np.full((5, 1), value)
        assert recognition.mean_average_precision(tied, targets) == 2 / 5
    # 1 alone in front, then a tie of 1 in 2: (1/1 + 2/3) / 2
    scores = np.array([[0.9], [0.5], [0.1], [0.5], [0.1]])
    assert recognition.mean_average_precision(scores, targets) == pytest.approx(5 / 6)


def test_map_equals_the_definition_on_random_scores():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 30, (200, 5)) / 30  # with many ties
    targets = rng.random((200, 5)) < [0.02, 0.1, 0.5, 0.9, 0.3]
    each = []
    for s, t in zip(scores.T, targets.T, strict=True):
        # scikit-learn: sum over thresholds of (recall - recall before) * precision
        before = total = 0.0
        for threshold in np.unique(s)[::-1]:
            found = s >= threshold
            recall = (found & t).sum() / t.sum()
            total += (recall - before) * (found & t).sum() / found.sum()
            before = recall
        each.append(total)
    got = recognition.mean_average_precision(scores, targets)
    assert got == pytest.approx(np.mean(each), rel=1e-12)


def test_confusion_matrix():
    got = recognition.confusion_matrix(SCORES, ONE)
    want = np.zeros((6, 6), int)
    want[0, 0] = want[1, 2] = want[2, 0] = want[2, 2] = 1
    np.testing.assert_array_equal(got, want)
    assert np.trace(got) / got.sum() == recognition.top1(SCORES, ONE)


def spec(classes, **fields):
    return LabelSpec(8, 32, 32, tuple(f"class {i}" for i in range(classes)), **fields)


def test_metrics_that_suit_the_data():
    assert list(create_recognition_metrics((), spec(400))) == [
        "top1",
        "top5",
        "mean_class_accuracy",
    ]
    assert list(create_recognition_metrics((), spec(5))) == [
        "top1",
        "mean_class_accuracy",
    ]
    several = spec(157, multi_label=True)
    assert list(create_recognition_metrics((), several)) == ["map"]
    chosen = create_recognition_metrics(("map", "top1"), spec(4))
    assert list(chosen) == ["map", "top1"]
    assert chosen["top1"].fn(SCORES, ONE) == 0.5 and chosen["map"].higher_is_better


def test_metrics_that_do_not():
    with pytest.raises(UserError, match="did you mean 'mean_class_accuracy'"):
        create_recognition_metrics(("mean_accuracy",), spec(4))
    with pytest.raises(UserError, match="needs one label a clip"):
        create_recognition_metrics(("top1",), spec(157, multi_label=True))
