"""Recognising a long video window by window, with a video whose answer is known."""

import csv
import io
import json
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from stjax import media, viz
from stjax.cli import predicting
from stjax.data.base import LabelSpec
from stjax.data.labelled import make_views
from stjax.data.sampling import Sampling
from stjax.errors import UserError
from stjax.recognition import Recogniser
from stjax.viz.timeline import ticks

CLASSES = ("red", "green", "blue")
FPS, LENGTH = 10, 60  # the colour changes at 2 s and at 4 s


class Colour(nn.Module):
    """Logits are the mean colour, of the largest sharpness."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return 4 * self.features(x).mean((1, 2, 3))

    def features(self, x, *, train=False):
        return x


def recogniser(crops=1, name="dense", **options):
    sampling = Sampling(name, 4, 2)
    views = make_views(
        False, sampling, size=8, test_size=None, test_short_side=None, augment=None,
        repeats=1, clips=1, crops=crops, reverse=False,
    )  # fmt: skip
    spec = LabelSpec(4, 8, 8, CLASSES)
    return Recogniser(Colour(), {}, spec, views=views, **options)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Red, then green, then blue; the first frames are black."""
    frames = np.zeros((LENGTH, 32, 48, 3), np.uint8)
    for k in range(3):
        frames[20 * k : 20 * k + 20, ..., k] = 200
    frames[:2] = 0
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    media.write_mp4(path, frames, fps=FPS)
    return path


def test_what_is_shown_when(film):
    found = recogniser().slide(film, window=1.0, stride=0.5)
    np.testing.assert_allclose(found.times[:, 0], 0.5 * np.arange(11))
    np.testing.assert_allclose(found.times[:, 1] - found.times[:, 0], 1)
    assert found.probabilities.shape == (11, 3) and found.unit == "s"
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-5)
    names = [CLASSES[k] for k in found.best]
    assert names[0:3] == ["red"] * 3 and names[4:7] == ["green"] * 3
    assert names[8:] == ["blue"] * 3
    segments = found.segments()
    assert [s[2] for s in segments] == list(CLASSES)
    for segment, begin in zip(segments, (0, 2, 4), strict=True):
        assert segment[0] == pytest.approx(begin, abs=0.26)
    assert segments[0][1] == segments[1][0] and segments[-1][1] == 6


def test_a_window_sees_the_frames_of_its_stretch(film):
    model = recogniser()
    found = model.slide(film, window=0.8, stride=0.8)
    frames = media.read_clip(str(film)).frames
    # From frame 16 on 8 frames, the last one included, 4 of them: 16 18 20 23.
    clip = frames[[16, 18, 20, 23], :, 8:40]
    clip = clip.reshape(4, 8, 4, 8, 4, 3).mean((2, 4)).round().astype(np.uint8)
    np.testing.assert_allclose(found.probabilities[2], model(clip)[0], atol=0.02)
    assert sorted(found.probabilities[2])[1] > 0.4  # two colours are in it


def test_batches_and_crops_do_not_matter(film):
    expected = recogniser().slide(film, 1.0, 0.25).probabilities
    for batch in (1, 3, 100):
        found = recogniser().slide(film, 1.0, 0.25, batch=batch)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    found = recogniser(crops=3).slide(film, 1.0, 0.25)
    np.testing.assert_allclose(found.probabilities, expected, atol=0.01)


def test_the_window_of_the_training_and_its_half(film):
    found = recogniser().slide(film)  # 4 frames x step 2
    np.testing.assert_allclose(found.times[:2], [[0, 0.8], [0.4, 1.2]])
    assert found.times[-1, 1] == 6
    with pytest.raises(UserError, match="trained on whole videos.*set window, in sec"):
        recogniser(name="uniform").slide(film)
    assert len(recogniser(name="uniform").slide(film, window=60.0).times) == 1


def test_a_folder_of_images_counts_frames(film, tmp_path):
    for i, frame in enumerate(media.read_clip(str(film)).frames):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    found = recogniser().slide(tmp_path, window=10, stride=5)
    assert found.unit == "frames"
    np.testing.assert_array_equal(found.times[-1], [50, 60])
    expected = recogniser().slide(film, 1.0, 0.5).probabilities
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"window": 0.01}, "window=0.01 seconds: expected at least a frame, 0.1"),
        ({"stride": -1.0}, "stride=-1 seconds"),
        ({"window": float("nan")}, "window=nan"),
        ({"batch": 0}, "batch=0: expected at least 1"),
    ],
)
def test_wrong_lengths(film, fields, message):
    with pytest.raises(UserError, match=message):
        recogniser().slide(film, **fields)


def test_the_memory_of_a_longer_video_is_the_same(tmp_path):
    """Peaks of what Python holds, of videos of 100 and of 400 frames."""
    peaks = []
    for length in (100, 400):
        frames = np.zeros((length, 96, 96, 3), np.uint8)
        media.write_mp4(tmp_path / f"{length}.mp4", frames, fps=25)
        del frames
        model = recogniser()
        model.slide(tmp_path / f"{length}.mp4", 0.5, 0.25)  # compile
        tracemalloc.start()
        model.slide(tmp_path / f"{length}.mp4", 0.5, 0.25)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # All frames more would be 300 * 96 * 96 * 3 = 8.3 MB; of crops 57 kB.
    assert peaks[1] - peaks[0] < 300_000


def test_csv_json_and_picture(film):
    found = recogniser().slide(film, 1.0, 0.5)
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == 11
    assert rows[5]["begin_s"] == "2.500" and rows[5]["class"] == "green"
    assert float(rows[5]["green"]) == pytest.approx(found.probabilities[5, 1], abs=1e-6)
    values = json.loads(json.dumps(found.to_dict()))
    assert [s["class"] for s in values["segments"]] == list(CLASSES)
    assert len(values["windows"]) == 11 and values["classes"] == list(CLASSES)
    picture = viz.timeline(found, top=2)
    taller = viz.timeline(found)
    assert picture.dtype == np.uint8 and len(taller) > len(picture)
    # The film on top shows the three colours, from left to right.
    strip = taller[50:100].astype(int).mean(0)
    places = [np.flatnonzero(strip[:, k] - strip.sum(-1) / 2 > 40) for k in range(3)]
    assert all(len(p) for p in places)
    assert places[0].max() < places[1].min() < places[1].max() < places[2].min()


def test_ticks_are_round():
    assert ticks(0, 10) == pytest.approx(range(11))
    assert ticks(0, 480) == [0, 60, 120, 180, 240, 300, 360, 420, 480]
    assert ticks(0, 480, "frames") == [0, 50, 100, 150, 200, 250, 300, 350, 400, 450]


def test_the_command(film, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stjax.loading.load", lambda *_: recogniser(source="a test"))
    options = {"workdir": "x", "input": str(film), "output": str(tmp_path / "out")}
    predicting.predict(**options, sliding=True, window=1.0, stride=0.5)
    out = capsys.readouterr().out
    assert "11 windows" in out and "green" in out
    for name in ("timeline.png", "timeline.csv", "timeline.json"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    with pytest.raises(UserError, match="--window and --stride go with --sliding"):
        predicting.predict(**options, window=1.0)
    with pytest.raises(UserError, match="no such file"):
        predicting.predict(workdir="x", input="nothing.mp4", sliding=True)
    with pytest.raises(UserError, match="unknown dtype 'float8'"):
        predicting.predict(**options, dtype="float8")


def test_embeddings_and_the_best_classes():
    model = recogniser(largest_batch=2)
    x = np.zeros((3, 4, 8, 8, 3), np.uint8)
    x[0, ..., 0] = x[1, ..., 1] = 255
    pooled, whole = model.features(x), model.features(x, pooled=False)
    assert whole.shape == (3, 4, 8, 8, 3)
    np.testing.assert_allclose(pooled, whole.mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(pooled[0], np.float32([255, 0, 0]) / 57.375 - 2, 1e-5)
    both = model.top_k(model(x), 2)
    assert [row[0][0] for row in both[:2]] == ["red", "green"] and len(both[0]) == 2
    with pytest.raises(UserError, match="k=0: expected at least 1"):
        model.top_k(model(x), 0)
    with pytest.raises(UserError, match=r"shape \(4,\), expected \[3\]"):
        model.top_k(np.zeros(4))

    class Plain(nn.Module):
        def __call__(self, x, *, train=False):
            return jnp.zeros((len(x), 3))

    with pytest.raises(UserError, match="Plain has no method features"):
        Recogniser(Plain(), {}, model.spec).features(x)
