"""A tiny run that several tests look at, and sources made by hand."""

import dataclasses

import numpy as np
import pytest

from stjax.config import load_config
from stjax.data.base import ClipSpec


@pytest.fixture
def tiny():
    """A fresh config of a tiny TAU: 4 steps of 2 clips of 2 + 2 frames, 16x16."""
    return tiny_config()


def tiny_config(**train):
    config = load_config("tau/moving_digits:miniature")
    config.train.update(**{"steps": 4, "eval_every": 2, **train})
    return config


@dataclasses.dataclass
class ArraySource:
    """Clips out of an array [N, T, H, W, C]."""

    video: np.ndarray
    spec: ClipSpec

    def __len__(self):
        return len(self.video)

    def clip(self, index, rng):
        video = self.video[index].copy()
        t = self.spec.t_in
        target = video[t:][..., list(self.spec.target_index)]
        return {"input": video[:t], "target": target}


@pytest.fixture
def float_source():
    """Five clips of 2 + 2 frames, 16x16, in kelvin; some cells are missing."""
    rng = np.random.default_rng(0)
    video = rng.normal(280, 10, (5, 4, 16, 16, 1)).astype(np.float32)
    video[:, :, :3] = np.nan
    spec = ClipSpec(
        2,
        2,
        16,
        16,
        channels=("t2m",),
        dtype="float32",
        offset=(280.0,),
        scale=(10.0,),
        units="K",
        metric_space="raw",
    )
    return ArraySource(video, spec)
