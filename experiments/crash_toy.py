"""What `crash_safety.py` trains: one layer on moving digits."""

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from stjax.config import load_config


def get_config() -> ConfigDict:
    """Steps of 2 clips of 16x16; the metrics compile fast."""
    config = load_config("tau/moving_digits:miniature")
    with config.unlocked():
        config.name = "crash_toy"
        config.model = {"name": "crash_toy:Toy"}
        config.metrics = ("mse",)
        config.train.update(eval_every=100)
    return config


class Toy(nn.Module):
    """The last frame and what a layer adds to it."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        """[B, T, H, W, 1] -> [B, frames, H, W, 1]."""
        y = nn.Dense(64, dtype=self.dtype)(jnp.moveaxis(x, 1, -1)[..., 0, :])
        y = nn.Dense(frames or x.shape[1], dtype=self.dtype)(nn.gelu(y))
        return x[:, -1:] + jnp.moveaxis(y, -1, 1)[..., None]
