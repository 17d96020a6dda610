"""Compilers of accelerators, where they are installed."""

import importlib.util

import pytest


@pytest.fixture
def tpu_compiler():
    """Skips where the compiler of TPUs is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip(
            "libtpu is not installed (pip install -e '.[aot]'): nothing compiled"
        )
