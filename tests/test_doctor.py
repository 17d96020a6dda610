"""stjax doctor: every extra is known to it, and what does not work is one line."""

import configparser
import importlib.util
from pathlib import Path

import pytest

from stjax import doctor

ROOT = Path(__file__).parent.parent


def extras():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser["options.extras_require"]


def test_every_extra_is_known():
    without = {"all", "colab", "docs"}  # sets of others, tools of who works on stjax
    assert set(doctor.EXTRAS) == set(extras()) - without


# Where a package does not have the name of its module.
NAMES = {
    "libtpu": "jax",
    "jax_cuda13_plugin": "jax",
    "onnxruntime": "jax2onnx",
    "xdist": "pytest-xdist",
    "skimage": "scikit-image",
    "mlflow": "mlflow-skinny",
}


@pytest.mark.parametrize("extra", doctor.EXTRAS)
def test_modules_are_those_of_the_extra(extra):
    wanted = {line.split(">")[0].split("[")[0] for line in extras()[extra].split("\n")}
    modules = doctor.EXTRAS[extra][0].split()
    assert {NAMES.get(m, m) for m in modules} == wanted - {"", "stjax"}


def test_what_is_missing_has_its_pip_line(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(doctor, "CHECKS", ())
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda n: None if n in ("zarr", "h5py") else find(n),
    )
    assert doctor.doctor() == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "stjax[grids]" in line]
    assert line.startswith("  without  xarray in and out")
    assert line.endswith("(zarr, h5py): pip install 'stjax[grids]'")


@pytest.mark.parametrize("check", [doctor._convolution, doctor._attention])
def test_wrong_arithmetic_is_seen(check, monkeypatch, capsys):
    import jax

    assert doctor._passes(check)
    monkeypatch.setattr(jax, "jit", lambda f, **_: lambda *a, **k: 2 * f(*a, **k))
    assert not doctor._passes(check)
    good, bad = capsys.readouterr().out.splitlines()
    assert good.startswith("  ok ") and bad.startswith("  FAILED ")
    assert "AssertionError" in bad and len(bad) < 400


def test_without_tensorflow_grain_is_enough(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "without TensorFlow" in doctor._tfdata()
