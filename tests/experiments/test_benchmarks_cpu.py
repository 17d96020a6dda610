"""The benchmark beside PyTorch: weights, results, turns, records, checkouts."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "benchmarks"))
import cpu
import cpu_figures
import cpu_sides
import cpu_tables
import cpu_worker
import table


def prepared(name, folder, checkout=None):
    cpu_figures.prepare(cpu_figures.FIGURES[name], folder, checkout, miniature=True)
    return folder


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="needs stjax[torch]")


@pytest.fixture(scope="module")
def tau(torch, tmp_path_factory):
    return prepared("tau_taxibj", tmp_path_factory.mktemp("tau"))


@pytest.mark.parametrize("kind", ["forward", "train"])
def test_sides_agree_before_they_are_timed(tau, kind):
    answers = []
    for side in ("stjax", "eager", "channels_last", "onnx"):
        first = {"do": "first", "save": f"{side}.npy"}
        lines = map(json.dumps, [first, {"do": "run", "calls": 2}, {"do": "memory"}])
        answers.append([])
        cpu_worker.serve(side, kind, tau, lines, answers[-1].append)
    for told, *timed in answers[:3]:
        assert "skipped" not in told
        assert timed[0]["seconds"] > 0
        # Here all share a process, whose unused memory goes back before it is measured.
        assert timed[1]["peak_bytes"] > 2**26 and told["base_bytes"] > 2**26
    assert set(answers[0][0]["first"]) == {"trace", "compile", "run", "total"}
    last = answers[-1][0]
    assert kind == "forward" or last == {"skipped": "it does not train"}
    names = ["eager", "channels_last"]
    names += ["onnx"] if "skipped" not in last else []
    for name in names:
        assert cpu.error(kind, tau, name, "stjax") < cpu.TOLERANCE[kind]
    if kind == "forward":  # and would not with other weights
        wrong = np.load(tau / "eager.npy") * 1.001
        np.save(tau / "wrong.npy", wrong)
        assert cpu.error(kind, tau, "wrong", "stjax") > cpu.TOLERANCE[kind]


class Fake:
    """Answers as a process would; a call takes as long as it is told."""

    log: list = []

    def __init__(self, name, seconds):
        self.name, self.seconds = name, seconds

    def ask(self, do, calls):
        Fake.log.append((self.name, calls))
        return {"seconds": self.seconds, "cpu_seconds": 2 * self.seconds}


def test_sides_take_turns_in_both_directions():
    Fake.log.clear()
    turns = cpu.take_turns([Fake("a", 0.2), Fake("b", 0.05)], 3, 0.4)
    assert Fake.log[2:] == [("a", 2), ("b", 8), ("b", 8), ("a", 2), ("a", 2), ("b", 8)]
    assert turns["b"] == [{"seconds": 0.05, "cpu_seconds": 0.1}] * 3


def row(side, seconds, **versions):
    first = {"total": 3.0}
    if side.startswith("stjax"):
        first = {"cold": {"total": 7.0}, "warm": {"total": 1.5}}
    versions = {"python": "3.11", **versions}
    found = {"side": side, "versions": versions, "first": first, "seconds": seconds}
    return found | {"cpu_seconds": seconds, "peak_bytes": 2**30, "base_bytes": 1}


RECORD = {
    "rows": [
        row("stjax", [0.2, 0.3, 0.2], jax="0.10"),
        row("stjax1", [0.1, 0.3, 0.4], jax="0.12"),
        row("stjax_scan", [0.3, 0.4, 0.4], jax="0.10"),
        row("eager", [0.4, 0.5, 0.8], torch="2.13"),
        row("channels_last", [0.2, 0.2, 0.4], torch="2.13"),
        {"side": "onnx", "skipped": "no module named onnx"},
    ],
    "clips": 2,
    "load": [0.5, 1.0],
    "machine": {"processor": "P", "cpus": 2, "system": "Linux", "date": "2026-01-01"},
    "peer": "peers",
}


def test_ratios_are_taken_within_a_round():
    assert cpu_tables.best(RECORD, cpu_tables.TORCH) == "channels_last"
    assert cpu_tables.ratios(RECORD, "stjax", "channels_last") == pytest.approx(
        [0.5, 1.0, 1.5]
    )
    text = cpu_tables.table(RECORD)
    assert "| 1.00 (0.50–1.50) |" in text and "skipped: no module named onnx" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_rows_of_the_readme(monkeypatch):
    records = {"cpu": {"tau_taxibj": {"train": RECORD}}}
    monkeypatch.setattr(table, "record", lambda name: records.get(name, {}))
    found = table.rows()
    assert found[0] == (
        "| TAU, TaxiBJ: training step | 0.200 s a clip (jax 0.10) | 0.200"
        " (channels-last) | **1.00** | ≤ 1.0 |"
    )
    assert [line.split("|")[1].partition(":")[2].strip() for line in found] == [
        "training step",
        "peak memory of training",
        "first training step (jax 0.10)",
        "training step",
        "peak memory of training",
        "first training step (jax 0.12)",
    ]


def test_the_readme_has_the_table_of_the_records():
    text = table.README.read_text()
    assert table.BEGIN in text, "the README has no marks for the table"
    assert table.written(text) == text, (
        "python experiments/benchmarks/table.py --write puts the new figures in"
    )


OPENSTL = """
from peers.tau import SimVP
class SimVP_Model(SimVP):
    def __init__(self, in_shape, hid_S, hid_T, N_S, N_T, model_type, mlp_ratio,
                 drop_path, **kwargs):
        assert model_type == "tau"
        t, c, h, w = in_shape
        super().__init__(t, c, hid_S, hid_T, N_S, N_T, mlp_ratio, drop_path)
"""
DEFAULTS = """
from pathlib import Path
from types import SimpleNamespace as N
def get_cfg():
    cfg = N(DATA=N(), MODEL=N(), UNIFORMER=N(), NUM_GPUS=8)
    cfg.merge_from_file = lambda file: setattr(cfg, "text", Path(file).read_text())
    return cfg
"""
BUILD = """
import torch
class Net(torch.nn.Module):
    def __init__(self, cfg):
        super().__init__()
        assert cfg.NUM_GPUS == 0 and cfg.text == "a: 1"
        self.shape = cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE
        self.head = torch.nn.Linear(3, cfg.MODEL.NUM_CLASSES)
    def forward(self, x):
        assert isinstance(x, list)
        y = self.head(x[0].mean((2, 3, 4)))
        return y if self.training else y.softmax(-1)
def build_model(cfg):
    return Net(cfg)
"""


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def fresh(monkeypatch):
    """Imports of a checkout are forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("openstl", "slowfast"):
            del sys.modules[name]


def test_a_checkout_of_openstl(tmp_path, fresh, torch):
    """A miniature in its layout; it has the names and results of the real one."""
    files = {f"openstl/{n}": "" for n in ("__init__.py", "models/__init__.py")}
    files["openstl/models/simvp_model.py"] = OPENSTL
    checkout = write(tmp_path / "OpenSTL", files)
    (out := tmp_path / "out").mkdir()
    folder = prepared("tau_taxibj", out, str(checkout))
    sys.path.remove(str(checkout))
    made = {
        side: cpu_sides.make(side, "forward", folder) for side in ("eager", "stjax")
    }
    for side, one in made.items():
        np.save(folder / f"{side}.npy", one.result)
    assert cpu.error("forward", folder, "eager", "stjax") < cpu.TOLERANCE["forward"]
    model = torch.load(folder / "model.pt", weights_only=False)
    assert type(model).__module__ == "openstl.models.simvp_model"


@pytest.mark.parametrize(
    ("name", "root", "file", "crop"),
    [
        (
            "uniformer_s",
            "video_classification",
            "exp/uniformer_s16x4_k400/config.yaml",
            112,
        ),
        ("nl_i3d_r50", ".", "configs/Kinetics/c2/I3D_NLN_8x8_R50.yaml", 128),
    ],
)
def test_a_checkout_with_slowfast(tmp_path, fresh, torch, name, root, file, crop):
    """Layout, config and calls of Sense-X/UniFormer and PySlowFast."""
    import checkouts

    package = [f"slowfast/{n}__init__.py" for n in ("", "config/")]
    files = dict.fromkeys(package, "") | {"slowfast/config/defaults.py": DEFAULTS}
    files |= {"slowfast/models/__init__.py": BUILD, file: "a: 1"}
    write(tmp_path / root, files)
    figure = cpu_figures.FIGURES[name]
    config = cpu_figures.config_of(figure)
    model = checkouts.BUILD[figure.project](tmp_path, config)
    assert model.net.shape == (8, crop)
    x = torch.randn(2, 3, 8, 16, 16)
    logits = model.train()(x).detach()
    assert logits.shape == (2, 400)
    scores = model.eval()(x).detach()
    expected = logits.log_softmax(-1) if name == "nl_i3d_r50" else logits.softmax(-1)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
