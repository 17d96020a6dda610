"""Attention and curves as pictures."""

import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from stjax import viz
from stjax.errors import UserError
from stjax.report import inline
from stjax.viz import curves, heat


def relation(weights, query=(1, 2, 3), grid=(2, 4, 4)):
    return viz.Relation("res3/block", "non_local", query, grid, np.float32(weights))


def test_heat_lies_where_the_weight_is():
    weights = np.zeros((1, 2, 2, 2))
    weights[0, 1, 0, 1] = 1.0  # the second time step, upper right
    clip = np.zeros((4, 16, 16, 1), np.float32)
    clip[0, 0, 0] = 1.0
    picture = viz.draw_attention([relation(weights)], clip).astype(int)
    orange = np.argwhere(picture[..., 0] - picture[..., 2] > 150)
    top, left = orange.min(0)
    bottom, right = orange.max(0) + 1
    assert (bottom - top, right - left) == (48, 48)  # half of a cell of 96
    green = np.argwhere((picture == (0, 230, 118)).all(-1))
    assert green.min(0).tolist() == [top + 48, left + 24]  # row 2, column 3 of 4
    assert len(orange) == 48 * 48


def test_pooled_keys_stand_for_their_cells():
    """The fifth row and column of an odd grid belong to no key."""
    found = heat._spread(np.float32([[[1, 2], [3, 4]]]), (1, 5, 5))
    assert found.sum() == 10 and found[0, 4].sum() == found[0, :, 4].sum() == 0
    assert found[0, 2, 1] == 3 / 4


def test_negative_weights_are_blue():
    weights = np.full((1, 2, 4, 4), -1.0)
    weights[0, 0] = 1.0
    clip = np.ones((2, 16, 16, 1), np.float32)
    picture = viz.draw_attention([relation(weights)], clip, value_range=(0, 1))
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    assert (red - blue > 100).sum() == 96**2 and (blue - red > 100).sum() > 90**2


def test_gates_have_a_row_for_the_frames_of_the_first_block():
    rng = np.random.default_rng(0)
    gates = [
        viz.Gate("a", rng.normal(size=(4, 4, 6)), np.full(6, 0.5), 3),
        viz.Gate("b", rng.normal(size=(4, 4, 8)), np.linspace(0, 1, 8), None),
    ]
    clip = rng.random((3, 16, 16, 1))
    whole = viz.draw_attention(gates, clip)
    rest = viz.draw_attention(gates[1:], clip)
    assert whole.dtype == np.uint8 and whole.shape[0] > rest.shape[0] + 2 * 96


def test_nothing_to_draw():
    with pytest.raises(UserError, match="0 layers"):
        viz.draw_attention([], np.zeros((2, 8, 8, 1)))
    with pytest.raises(UserError, match="nothing to draw"):
        viz.training_curves([])


LINES = [{"step": s, "train/loss": 1.0 / s, "goodput/step": 1.0} for s in (1, 2, 3)]
LINES.append({"step": 3, "validation/mse": None})


def test_panels_of_a_training():
    found = curves.training_panels({"run": LINES})
    assert list(found) == ["train/loss", "validation/mse"]
    x, y = found["train/loss"]["run"]
    assert x.tolist() == [1, 2, 3] and y.tolist() == [1, 1 / 2, 1 / 3]
    assert viz.training_curves(LINES).dtype == np.uint8


def test_long_curves_are_means_of_neighbours():
    long = [{"step": s, "train/loss": float(s % 2)} for s in range(1, 10001)]
    x, y = curves.training_panels({"run": long})["train/loss"]["run"]
    assert len(x) == 400 and x[-1] == 10000 and set(y) == {0.48, 0.52}


def test_curves_over_the_frames():
    report = {"per_frame": {"mse": [1.0, 2.0]}, "baselines_per_frame": {}}
    report["baselines_per_frame"]["black"] = {"mse": [3.0, None]}
    found = curves.frame_panels(report)
    assert found["mse"]["~black"][1] == [3.0, None]
    assert viz.frame_curves(report).shape[-1] == 3


def test_svg_takes_the_colours_of_its_page():
    drawn = curves.panels({"a": {"x": ([1, 2], [1.0, 2.0])}}, x_label="step")
    text = inline.svg(drawn)
    ElementTree.parse(io.StringIO(text))
    assert "currentColor" in text and "#000000" not in text
    assert "<text" in text and "metadata" not in text and "DejaVu" not in text
