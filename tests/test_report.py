"""The report of a run: its facts, and how a real browser shows it."""

import html
import json
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest
from etils import epath
from flax import linen as nn

from stjax import config as configs
from stjax import report
from stjax.cli import main
from stjax.data.base import ClipSpec, LabelSpec
from stjax.errors import UserError
from stjax.models.registry import create_model
from stjax.prediction import Predictor
from stjax.recognition import Recogniser
from stjax.report import examples, records
from stjax.training.workdir import describe

T, SIDE = 3, 16
FRAMES = ClipSpec(T, T, SIDE, SIDE)
CLASSES = ("run & jump", "<b>walk</b>")
LABELS = LabelSpec(T, SIDE, SIDE, CLASSES)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def results(config, metrics, **more):
    return {
        "config": config,
        "protocol": "model selected on the validation split",
        "metrics": metrics,
        "clips": 7,
        "skipped": 1,
        "params": 1234567,
        "steps": 100,
        "best_step": 80,
        "seed": 42,
        "devices": "1 x cpu",
        "seconds": 30.0,
        "clips_per_second": 12.5,
        "goodput": {
            "seconds": {"step": 24.0, "init": 6.0, "total": 30.0},
            "shares": {"step": 0.8, "init": 0.2},
        },
        "versions": {"stjax": "0.1.0", "jax": "0.10.2"},
        **more,
    }


def make_run(folder, config, spec, found, loss=1.0):
    describe(folder, config, spec)
    lines = [
        {"step": s, "train/loss": loss / s, "train/lr": 0.1} for s in range(1, 101)
    ]
    lines.append({"step": 100, "validation/mse": 2.5})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    (folder / "results.json").write_text(json.dumps(found))
    return str(folder)


@pytest.fixture(scope="module")
def prediction(tmp_path_factory):
    config = configs.load_config("tau/moving_digits:miniature")
    curves = {"mse": [1.0, 2.0, 3.0], "psnr": [30.0, 20.0, 10.0]}
    found = results(
        config.name,
        {"mse": 2.0, "psnr": 20.0},
        per_frame=curves,
        baselines={
            "black": {"mse": 8.0, "psnr": 25.0},
            "last_frame": {"mse": 4.0, "psnr": None},
        },
        baselines_per_frame={"black": curves, "last_frame": curves},
    )
    return make_run(tmp_path_factory.mktemp("frames"), config, FRAMES, found)


@pytest.fixture(scope="module")
def recognition(tmp_path_factory):
    config = configs.load_config("uniformer/motion_clips:miniature")
    found = results(
        config.name,
        {"top1": 0.75},
        classes=CLASSES,
        confusion=[[3, 1], [1, 2]],
        baselines={"most_frequent_class": {"top1": 0.57}},
    )
    return make_run(tmp_path_factory.mktemp("classes"), config, LABELS, found)


class Clips:
    """A split of generated clips."""

    def __init__(self, spec):
        self.spec = spec

    def __len__(self):
        return 5

    def clip(self, index, rng):
        rng = np.random.default_rng(index)
        arrays = {
            name: rng.integers(0, 256, shape).astype(dtype)
            for name, (shape, dtype) in self.spec.arrays.items()
        }
        if self.spec is LABELS:
            arrays["target"] = np.eye(2, dtype=np.float32)[index % 2]
        return arrays


class Means(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(2)(x.mean((1, 2, 3)))


@pytest.fixture(scope="module")
def models():
    net = create_model("tau", hid_s=4, hid_t=16, n_s=2, n_t=2, mlp_ratio=2)
    made = {}
    for name, model, spec, cls in (
        ("frames", net, FRAMES, Predictor),
        ("classes", Means(), LABELS, Recogniser),
    ):
        x = np.zeros((1, *spec.input_shape), np.float32)

        def init(model=model, x=x):
            return model.init(jax.random.key(0), x, train=False)

        made[name] = cls(model, jax.jit(init)(), spec)
    return made


@pytest.fixture
def loaded(models, monkeypatch):
    """Loading gives the models above, and their clips."""

    def load(workdir, step):
        return models["frames" if "frames" in workdir else "classes"]

    def open_split(config, split):
        assert split == "test"
        return Clips(FRAMES if "digits" in config.name else LABELS)

    monkeypatch.setattr(examples, "load", load)
    monkeypatch.setattr(examples, "open_split", open_split)


def text_of(page):
    """What a reader sees, roughly."""
    body = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", body)))


def test_results_stand_beside_the_baselines(prediction):
    page = report.write(prediction, clips=0).read_text()
    text = text_of(page)
    assert "mse ↓ psnr ↑ model 2 20 black 8 25 last frame 4 -" in text
    best = re.findall(r'<td class="best">([^<]*)', page)
    assert best == ["2", "25"]  # the best of a column may be a baseline
    assert "7 clips of the test split; 1 more could not be read" in text
    assert "test mse 2 last frame: 4" in text and "1.23 M" in text
    assert "best at 80" in text and "12.5 clips/s" in text
    assert "step 80.0%" in text and "init 20.0%" in text
    assert page.count("<svg") == 2  # training, and over the frames


def test_config_says_what_is_not_as_in_the_named_one(prediction, tmp_path):
    config = configs.load_config("tau/moving_digits:miniature")
    config.optim.lr = 0.125
    folder = make_run(tmp_path, config, FRAMES, {})
    record = records.read(folder)
    named = dict(configs.flatten(configs.load_config("tau/moving_digits").to_dict()))
    assert record.changed["optim.lr"] == 0.125 != named["optim.lr"]
    text = text_of(report.write(folder, clips=0).read_text())
    assert "Other than in tau/moving_digits" in text and "optim.lr 0.125" in text
    assert "This run has not ended" in text and "step 100" in text


def test_predictions_and_tau(prediction, loaded, tmp_path):
    page = report.write(prediction, tmp_path / "p.html", clips=2).read_text()
    assert page.count('class="prediction"') == 2
    assert page.count("data:image/gif") == 2 and page.count("data:image/png") == 3
    assert "Test clip 0" in page and "Test clip 4" in page
    assert "dynamic one, a factor" in page
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>', "", page)
    assert "<script" not in page


def test_answers_and_confusion(recognition, loaded, tmp_path):
    page = report.write(recognition, tmp_path / "c.html", clips=3).read_text()
    assert page.count('class="answer"') == 3
    assert "&lt;b&gt;walk&lt;/b&gt;" in page and "<b>walk</b>" not in page
    assert "run &amp; jump" in page and "Confusion" in page
    assert "Attention" not in text_of(page)  # such a model has none


def test_several_runs(prediction, recognition, tmp_path):
    config = configs.load_config("tau/moving_digits:miniature")
    config.seed = 7
    found = results(config.name, {"mse": 1.5, "psnr": 22.0})
    other = make_run(tmp_path / "other", config, FRAMES, found)
    path = report.write([prediction, other], tmp_path / "both.html", clips=0)
    text = text_of(path.read_text())
    assert "2 runs" in text and "mse ↓ psnr ↑" in text
    name = epath.Path(prediction).name
    assert f"{name} 2 20 other 1.5 22" in text
    assert "seed 42 7" in text
    mixed = report.write([prediction, recognition], tmp_path / "m.html", clips=0)
    text = text_of(mixed.read_text())
    name = "motion_clips:miniature"
    assert f"tau/moving_digits:miniature 2 20 - uniformer/{name} - - 0.75" in text


def test_a_model_that_cannot_be_loaded(prediction, tmp_path):
    """No checkpoint: said, and the rest is there."""
    text = text_of(report.write(prediction, tmp_path / "p.html").read_text())
    assert "The model was not asked for examples" in text and "no checkpoint" in text
    assert "mse ↓" in text


def test_further_pictures(tmp_path):
    from stjax import media

    config = configs.load_config("tau/moving_digits:miniature")
    run = make_run(tmp_path, config, FRAMES, {})
    folder = tmp_path / "pictures"
    folder.mkdir()
    media.write_png(folder / "marginals.png", np.zeros((4, 4, 3), np.uint8))
    page = report.write(run, clips=0).read_text()
    assert "Further pictures" in page and 'alt="marginals"' in page


def test_a_search_shows_its_marginals(loaded, monkeypatch, tmp_path):
    from stjax import media
    from stjax.search import showing

    def show(workdir, output):
        picture = np.zeros((4, 4, 3), np.uint8)
        media.write_png(f"{output}/marginals.png", picture)
        return {"pictures": ["marginals.png"], "mode": "S+T", "marked": "T+T"}

    monkeypatch.setattr(showing, "show", show)
    config = configs.load_config("tau/moving_digits:miniature")
    config.search.gate = "categorical"
    run = make_run(tmp_path / "frames", config, FRAMES, {})
    page = report.write(run, clips=1).read_text()
    assert "Most probable: S+T ; best of the ranking: T+T" in text_of(page)
    assert 'alt="marginals"' in page


def test_errors(tmp_path, capsys):
    with pytest.raises(UserError, match=r"config\.json"):
        report.write(tmp_path)
    with pytest.raises(UserError, match="one run or"):
        report.write([])
    with pytest.raises(SystemExit) as stop:
        main(["stjax", "report", f"--workdir={tmp_path}", "--clips=-1"])
    assert stop.value.code == 2 and "--clips=-1" in capsys.readouterr().err


def browser():
    for name in BROWSERS:
        if shutil.which(name):
            return shutil.which(name)
    pytest.skip(f"no browser here ({', '.join(BROWSERS)})")


def visit(path, *flags):
    """The page after loading, and what the browser's console says."""
    done = subprocess.run(
        [
            browser(),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-extensions"),
            *("--enable-logging=stderr", "--log-level=0"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1200,900"),
            f"--user-data-dir={path.parent / 'profile'}",
            *flags,
            "--dump-dom",
            f"file://{path}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, console


PROBE = """<script>
addEventListener("load", () => {
  const loaded = performance.getEntriesByType("resource").map(e => e.name);
  document.documentElement.dataset.probe = JSON.stringify({
    images: [...document.images].map(i => i.complete && i.naturalWidth > 0),
    plots: [...document.querySelectorAll("svg")].map(s => s.clientWidth),
    asked: loaded.filter(name => !name.startsWith("data:")),
    overflow: document.documentElement.scrollWidth - innerWidth,
    ink: getComputedStyle(document.body).color,
    paper: getComputedStyle(document.body).backgroundColor,
  });
});
</script></body>"""


def probe(path, *flags):
    """What a script within a copy of the page finds."""
    page = re.sub(r"<meta http-equiv=[^>]*>", "", path.read_text())
    copy = path.with_name("probe.html")
    copy.write_text(page.replace("</body>", PROBE))
    dom, console = visit(copy, *flags)
    assert not console
    return json.loads(html.unescape(re.search(r'data-probe="([^"]*)"', dom)[1]))


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_in_a_browser(prediction, recognition, loaded, tmp_path):
    browser()
    path = tmp_path / "r.html"
    report.write([prediction, recognition], path, clips=2)
    dom, console = visit(path)
    assert not console  # with its own security policy: nothing was refused
    assert dom.count("data:image") == path.read_text().count("data:image")

    found = probe(path)
    assert len(found["images"]) == 8 and all(found["images"])
    assert len(found["plots"]) == 5 and min(found["plots"]) > 300
    assert found["asked"] == [] and found["overflow"] <= 0
    assert brightness(found["paper"]) > 200 > 80 > brightness(found["ink"])

    dark = probe(path, "--blink-settings=preferredColorScheme=0")
    assert brightness(dark["paper"]) < 80 < 200 < brightness(dark["ink"])
    small = probe(path, "--window-size=500,900")
    assert small["overflow"] <= 0

    # The check would see a request: the page's own policy refuses it, aloud.
    broken = path.read_text().replace("</main>", '<img src="http://a.test/x.png">')
    path.write_text(broken)
    assert any("Content Security Policy" in line for line in visit(path)[1])
