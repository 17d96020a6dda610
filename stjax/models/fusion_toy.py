"""A small recogniser with a choice of space-time unit in every block.

For the tasks of `stjax.data.known_answers`, whose answers assume what this network is:
time passes through the slots only (the stem is spatial), and all padding is circular,
so that the circle of frames has no begin.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.layers.common import BatchNorm, Dtype, fan_out_init
from stjax.layers.slots import ALL, Masks, Slot, built_paths, gated
from stjax.ops.conv import conv_nd

UNITS = (("S", ("s",)), ("ST", ("t",)), ("S+ST", ("s", "t")))
WINDOWS = {"s": (1, 1, 1), "t": (3, 1, 1)}


def _conv(features: int, window: tuple[int, ...], dtype: Dtype, **fields) -> nn.Conv:
    """Around the torus, no bias."""
    return nn.Conv(
        features,
        window,
        padding="CIRCULAR",
        use_bias=False,
        kernel_init=fan_out_init(),
        conv_general_dilated=conv_nd,
        dtype=dtype,
        **fields,
    )


class Block(nn.Module):
    """Paths side by side, their sum through BN and ReLU, 1x3x3, BN; residual.

    Attributes:
      features: channels.
      paths: those that exist: ``s`` (1x1x1), ``t`` (3x1x1).
      dtype: compute dtype.
    """

    features: int
    paths: tuple[str, ...]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> the same shape; `mask`: see `stjax.layers.slots`."""
        conv = functools.partial(_conv, self.features, dtype=self.dtype)
        norm = functools.partial(BatchNorm, dtype=self.dtype)
        y = sum(
            gated(conv(window=WINDOWS[path], name=path)(x), mask, index)
            for index, path in enumerate(WINDOWS)
            if path in self.paths
        )
        y = nn.relu(norm(name="bn")(y, train=train))
        y = conv(window=(1, 3, 3), name="conv")(y)
        return nn.relu(x + norm(name="conv_bn")(y, train=train))


class FusionToy(nn.Module):
    """Stem 1x3x3 of stride 2, blocks with a slot each, mean, linear.

    Attributes:
      num_classes: K.
      depth: number of blocks.
      width: channels.
      units: of the slots ``block_0`` ...: "S" (1x1x1), "ST" (3x1x1) or "S+ST" (their
        sum), before the 1x3x3 that they share; see `stjax.layers.slots`.
      dtype: compute dtype; parameters and logits are float32.
    """

    num_classes: int = 4
    depth: int = 4
    width: int = 8
    units: str | tuple[str, ...] = ALL
    dtype: Dtype = jnp.float32

    head_names = ("head",)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """See `stjax.layers.slots`."""
        modules = tuple((path, (path,)) for path in WINDOWS)
        return tuple(Slot(f"block_{i}", UNITS, modules) for i in range(self.depth))

    def setup(self):
        """Makes stem, blocks and head.

        Raises:
          UserError: there is no such unit.
        """
        self.stem = _conv(self.width, (1, 3, 3), self.dtype, strides=(1, 2, 2))
        self.stem_bn = BatchNorm(dtype=self.dtype)
        built = built_paths(self.slots, self.units)
        # An attribute that is a list names its modules: block_0, block_1, ...
        self.block = [
            Block(self.width, built[slot.name], self.dtype) for slot in self.slots
        ]
        self.head = nn.Dense(self.num_classes)

    def __call__(
        self, x: jax.Array, *, train: bool = False, masks: Masks | None = None
    ) -> jax.Array:
        """[B, T, H, W, C], normalised -> logits [B, num_classes] float32.

        Args:
          x: clips; height and width even.
          train: batch statistics.
          masks: factors of the paths, see `stjax.layers.slots`.

        Raises:
          UserError: shapes or units that cannot work.
        """
        y = self.features(x, train=train, masks=masks).astype(jnp.float32)
        return self.head(y.mean((1, 2, 3)))

    def features(
        self, x: jax.Array, *, train: bool = False, masks: Masks | None = None
    ) -> jax.Array:
        """The map before pooling: [B, T, H, W, C] -> [B, T, H/2, W/2, width]."""
        if x.ndim != 5 or x.shape[2] % 2 or x.shape[3] % 2:
            raise UserError(
                f"clips are [B, T, H, W, C] with even H and W, got {x.shape}"
            )
        x = nn.relu(self.stem_bn(self.stem(x), train=train))
        for slot, block in zip(self.slots, self.block, strict=True):
            x = block(x, None if masks is None else masks[slot.name], train)
        return x
