"""The models that ship: they load, compute what they did, are as their cards say."""

import json

import numpy as np
import pytest

import stjax
from stjax import zoo
from stjax.data.base import LabelSpec

NAMES = {
    "tau-moving-digits",
    "tau-mnist",
    "nl-i3d-motion-clips",
    "uniformer-motion-clips",
}


def test_names():
    assert set(zoo.names()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_computes_what_it_did_when_it_was_trained(name, golden):
    stored = golden(f"zoo_{name}.npz")
    model = stjax.load(name)
    found = model(stored["x"])
    scale = np.abs(stored["y"]).max()
    np.testing.assert_allclose(found, stored["y"], atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_card(name):
    folder = zoo.folder(name)
    card = (folder / "README.md").read_text()
    results = json.loads((folder / "results.json").read_text())
    assert "stjax train --config=" in card and "- seed: " in card and "- time: " in card
    for value in results["metrics"].values():
        assert f"{value:.4g}" in card
    assert (folder / "model.safetensors").stat().st_size < 2e6


@pytest.mark.parametrize("name", sorted(NAMES))
def test_is_better_than_trivial(name):
    results = json.loads((zoo.folder(name) / "results.json").read_text())
    if isinstance(stjax.load(name).spec, LabelSpec):
        assert results["metrics"]["top1"] > 0.8  # chance: 0.25
        return
    trivial = min(row["mse"] for row in results["baselines"].values())
    assert results["metrics"]["mse"] < 0.6 * trivial
