"""The benchmark of inputs, and what it recorded."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "benchmarks"))
import input as inputs

from stjax.data.digits import load_digits
from stjax.data.motion_files import SAMPLE_VIDEOS


def test_everything_takes_its_turns():
    found = inputs.measure(1, 32, SAMPLE_VIDEOS / "carphone.mp4")
    for row in found["digits"] + found["videos"]:
        assert len(row["second"]) == 1 and row["second"][0] > 0
    text = inputs.markdown(found)
    assert "carphone.mp4" in text and text.count("\n| ") == 2 + 5 + 2 + 4


def test_what_it_compares_with_draws_the_same_kind_of_clip():
    digits = load_digits("train")[:1]
    video = inputs.frame_by_frame(np.random.default_rng(0), digits)
    bright = video.reshape(20, -1).sum(-1, dtype=int)
    assert video.shape == (20, 64, 64)
    one = digits.sum(dtype=int)
    assert ((one <= bright) & (bright <= 2 * one)).all() and bright.max() > one


def test_the_record_meets_the_goal():
    file = Path(inputs.__file__).with_suffix(".json")
    if not file.exists():
        pytest.skip("nothing is recorded")
    for row in json.loads(file.read_text())["digits"]:
        if row["name"].startswith("Grain"):
            assert np.median(row["cpu_second"]) > 2000
