import os
import sys

import pytest

from stjax.cli.caching import keep_compiled

FOLDER = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture
def environ(monkeypatch):
    """Of a fresh process, without JAX."""
    monkeypatch.delitem(sys.modules, "jax")
    fresh = {"HOME": "/home/me"}
    monkeypatch.setattr(os, "environ", fresh)
    monkeypatch.setattr(os.path, "expanduser", lambda p: p.replace("~", "/home/me"))
    return fresh


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ({}, "/home/me/.cache/stjax/xla"),
        ({"XDG_CACHE_HOME": "/scratch"}, "/scratch/stjax/xla"),
        ({"STJAX_CACHE": "gs://bucket/cache/"}, "gs://bucket/cache/xla"),
        ({"STJAX_CACHE": "off"}, None),
        ({FOLDER: "/mine", "STJAX_CACHE": "/other"}, "/mine"),
    ],
)
def test_where_programs_are_kept(environ, given, folder):
    environ |= given
    keep_compiled()
    assert environ.get(FOLDER) == folder


def test_a_program_that_has_jax_is_left_alone(environ, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", object())
    keep_compiled()
    assert FOLDER not in environ
