"""Predictions without a model, and what they do to a field that moves."""

import importlib.util
import sys

import numpy as np
import pytest

from stjax import baselines
from stjax.errors import UserError


def moving_field(frames=9, size=16):
    """A smooth field that moves one row up and two columns right per frame."""
    y, x = np.mgrid[:64, :64] / 64 * 2 * np.pi
    field = np.sin(2 * x) * np.cos(3 * y) + 0.7 * np.sin(4 * x + 3 * y)
    clip = [
        field[12 + t : 12 + t + size, 30 - 2 * t : 30 - 2 * t + size]
        for t in range(frames)
    ]
    return np.stack(clip)[None, ..., None].astype(np.float32)


def test_persistence_and_mean():
    x = np.random.default_rng(0).random((2, 3, 4, 5, 2)).astype(np.float32)
    last = baselines.persistence(x, 6)
    assert last.shape == (2, 6, 4, 5, 2) and last.dtype == x.dtype
    np.testing.assert_array_equal(last, np.broadcast_to(x[:, 2:], last.shape))
    mean = baselines.mean_frame(x, 6)
    np.testing.assert_allclose(mean[:, 5], x.mean(1), rtol=1e-6)


def test_lagrangian_persistence_follows_the_motion():
    pytest.importorskip("pysteps")
    clip = moving_field()
    x, y = clip[:, :6], clip[:, 6:]
    both = np.concatenate([x, np.full_like(x, 0.5)], axis=-1)
    options = {"sectors": ((4, 2), (4, 2)), "options": {"maxiter": 20}}
    moved = baselines.lagrangian_persistence(both, 3, **options)
    assert moved.shape == (1, 3, 16, 16, 2) and moved.dtype == np.float32
    np.testing.assert_array_equal(moved[..., 1], 0.5)  # nothing moves: persistence
    inner = (slice(None), slice(None), slice(0, 13), slice(6, 16))
    error = np.mean((moved[..., :1] - y)[inner] ** 2)
    still = np.mean((baselines.persistence(x, 3) - y)[inner] ** 2)
    assert error < 0.05 * still


def test_what_lagrangian_persistence_needs(monkeypatch):
    x = moving_field()
    with pytest.raises(UserError, match="2 or more input frames"):
        baselines.lagrangian_persistence(x[:, :1], 2)
    if importlib.util.find_spec("pysteps"):
        with pytest.raises(UserError, match="method 'vett' failed"):
            baselines.lagrangian_persistence(x, 2, method="vett")
    with pytest.raises(UserError, match="finite"):
        baselines.lagrangian_persistence(np.full_like(x, np.nan), 2)
    monkeypatch.setitem(sys.modules, "pysteps", None)
    with pytest.raises(UserError, match="pip install pysteps"):
        baselines.lagrangian_persistence(x, 2)
