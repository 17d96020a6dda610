"""A tiny predictor, a tiny recogniser and their data, for runs of two processes."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from stjax.config import base_config, load_config
from stjax.data.base import LabelSpec
from stjax.layers.common import BatchNorm

RECOGNISED = LabelSpec(2, 4, 4, ("left", "right", "up"), views=2)


def get_config() -> ConfigDict:
    """12 steps of 4 clips; an epoch has 5; 5 clips to evaluate, so the last batch is
    ragged: its second host has nothing but padding."""
    config = load_config("tau/moving_digits:miniature")
    with config.unlocked():
        config.name = "toy"
        config.model = {"name": "toys:Toy"}
        config.data.update(batch=4, train_clips=20, eval_clips=5)
        config.train.update(steps=12, eval_every=12, save_every=5)
        config.optim.lr = 1e-2
        config.metrics = ("mse", "mae")
        config.mesh.data = -1
    return config


class Toy(nn.Module):
    """The last frame and what a wide layer adds to it."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        t = frames or x.shape[1]
        y = jnp.moveaxis(x, 1, -2).reshape(*x.shape[:1], *x.shape[2:4], -1)
        # A bias before the norm has no gradient but noise, which Adam makes large.
        y = nn.Dense(256, use_bias=False)(y)
        y = nn.gelu(BatchNorm()(y, train=train))
        y = nn.gelu(nn.Dense(256)(y))  # large enough to be split over fsdp
        y = nn.Dropout(0.1, deterministic=not train)(y)
        y = nn.Dense(t * x.shape[-1])(y)
        y = y.reshape(*y.shape[:3], t, x.shape[-1])
        return x[:, -1:] + jnp.moveaxis(y, 3, 1)


class Colour(nn.Module):
    """Logits are a matrix times the mean colour."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return x.mean((1, 2, 3)) @ jnp.eye(3) * 2


class Clips:
    """Seven labelled clips of noise."""

    spec = RECOGNISED

    def __init__(self):
        rng = np.random.default_rng(0)
        shape = (7, *self.spec.arrays["input"][0])
        self.x = rng.integers(0, 256, shape, np.uint8)
        self.y = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 7)]

    def __len__(self):
        return 7

    def clip(self, index, rng):
        return {"input": self.x[index], "target": self.y[index]}


def recognised(mesh: jax.sharding.Mesh) -> dict:
    """The report of `Colour` on `Clips` in batches of 4: a ragged last one."""
    from stjax.evaluation import create_evaluator

    config = base_config()
    with config.unlocked():
        config.data.batch = 4
        config.metrics = ("top1", "mean_class_accuracy", "map")
    return create_evaluator(config, Colour(), Clips(), mesh)({})
