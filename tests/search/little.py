"""The smallest networks with slots: a recogniser and a predictor."""

import flax.linen as nn
import jax.numpy as jnp

from stjax.layers.common import BatchNorm
from stjax.layers.slots import ALL, Slot, built_paths, gated

UNITS = (("S", ("s",)), ("ST", ("t",)), ("S+ST", ("s", "t")))
MODULES = (("s", ("a",)), ("t", ("b", "c")))


class Fused(nn.Module):
    """A Dense beside a convolution over time and a Dense, [B, T, C]."""

    paths: tuple[str, ...]

    @nn.compact
    def __call__(self, x, mask):
        y = 0.0
        width = x.shape[-1]
        if "s" in self.paths:
            y += gated(nn.Dense(width, use_bias=False, name="a")(x), mask, 0)
        if "t" in self.paths:
            z = nn.Conv(width, (3,), use_bias=False, name="b")(x)
            y += gated(nn.Dense(width, use_bias=False, name="c")(z), mask, 1)
        return x + y


class Block(nn.Module):
    paths: tuple[str, ...]

    @nn.compact
    def __call__(self, x, mask):
        return nn.relu(Fused(self.paths, name="fused")(x, mask))


class Little(nn.Module):
    """[B, T, H, W, C] -> logits; a norm, two blocks, a linear layer."""

    num_classes: int = 2
    units: str | tuple[str, ...] = ALL
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @property
    def slots(self):
        names = ("block_0/fused", "block_1/fused")
        return tuple(Slot(name, UNITS, MODULES) for name in names)

    @nn.compact
    def __call__(self, x, *, train=False, masks=None):
        y = x.mean(axis=(2, 3)).astype(jnp.float32)
        y = BatchNorm(name="norm")(nn.Dense(4, name="stem")(y), train=train)
        for i, (name, paths) in enumerate(built_paths(self.slots, self.units).items()):
            mask = None if masks is None else masks[name]
            y = Block(paths, name=f"block_{i}")(y, mask)
        return nn.Dense(self.num_classes, name="head")(y.mean(1))


class Ahead(nn.Module):
    """[B, T, H, W, C] -> as many frames: the last one, changed by one slot."""

    units: str | tuple[str, ...] = ALL
    dtype: jnp.dtype = jnp.float32

    @property
    def slots(self):
        return (Slot("fused", UNITS, MODULES),)

    @nn.compact
    def __call__(self, x, *, frames=None, train=False, masks=None):
        (paths,) = built_paths(self.slots, self.units).values()
        mask = None if masks is None else masks["fused"]
        b, t = x.shape[:2]
        y = Fused(paths, name="fused")(x.reshape(b, t, -1), mask).reshape(x.shape)
        return jnp.repeat(y[:, -1:], frames or t, axis=1)
