"""Every notebook runs, and its two forms say the same."""

import contextlib
import json
import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "colab"
BOOKS = sorted(FOLDER.glob("*.py"))
WANTED = {
    "quickstart",
    "train_on_your_arrays",
    "recognise_a_video",
    "search_a_fusion_strategy",
    "scale",
    "convert_a_pytorch_checkpoint",
}


def cells(text):
    """(kind, source) of the cells of a percent script, as jupytext reads them."""
    jupytext = pytest.importorskip("jupytext", reason="jupytext: pip install '.[test]'")
    found = jupytext.reads(text, fmt="py:percent").cells
    return [(cell.cell_type, cell.source) for cell in found]


def test_what_there_is():
    assert {book.stem for book in BOOKS} == WANTED
    assert {book.stem for book in FOLDER.glob("*.ipynb")} == WANTED


@pytest.mark.parametrize("book", BOOKS, ids=lambda b: b.stem)
def test_both_forms_are_the_same(book):
    stored = json.loads(book.with_suffix(".ipynb").read_text())
    assert not any(cell.get("outputs") for cell in stored["cells"])
    again = [(c["cell_type"], "".join(c["source"])) for c in stored["cells"]]
    assert again == cells(book.read_text()), f"jupytext --sync colab/{book.name}"


@pytest.mark.parametrize("book", BOOKS, ids=lambda b: b.stem)
def test_the_first_cell_installs(book):
    installs = [source for _, source in cells(book.read_text()) if "URL, TAG" in source]
    assert len(installs) == 1
    assert "stjax[colab] @ git+{URL}@{TAG}" in installs[0]


@pytest.mark.parametrize("book", BOOKS, ids=lambda b: b.stem)
def test_runs(book, tmp_path, monkeypatch):
    """Cell by cell, as a kernel would, without one: FAST."""
    monkeypatch.setenv("STJAX_FAST", "1")
    for name in ("XLA_FLAGS", "JAX_PLATFORMS"):  # put back what a notebook sets
        monkeypatch.setenv(name, os.environ[name])
    names = {"__name__": "__main__"}
    with contextlib.chdir(tmp_path):
        for kind, source in cells(book.read_text()):
            if kind == "code":
                exec(compile(source, book.name, "exec"), names)
