"""MobileNetV2 on video with fusion units (arXiv 2004.04981).

MobileNetV2 (Sandler et al., 2018) with a unit in the place of the expansion of its
blocks. The first block does not expand and has none: 16 slots. The paper trains fixed
strategies of it only and gives no figure of its cost; the stem, 1x3x3, is our reading.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import Dtype, torch_kernel_init
from stjax.layers.fusion import check_masks
from stjax.layers.fusion_residual import (
    ConvNorm,
    FusionInvertedResidual,
    expansion_slot,
)
from stjax.layers.remat import rematerialised
from stjax.layers.slots import ALL, Masks, Slot, built_paths
from stjax.models.densenet3d import check_clip
from stjax.sharding.activations import clip_means, constrain_rows

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2 of its paper: expansion, channels, blocks, stride of the first of them."""


class FusionMobileNetV2(nn.Module):
    """``fusion_mobilenetv2``.

    Every path has a BN and a ReLU6 of its own: no two units are the same functions.

    Attributes:
      num_classes: of the classifier.
      units: of the slots, one a block that expands: see `stjax.layers.slots`.
      stages: see `STAGES`.
      width: channels of the stem.
      last: channels before the classifier.
      dropout: before the classifier.
      remat: ``"none"``, or recompute blocks in the backward pass, all of them
        (``"full"``) or all but matrix products (``"dots"``).
      dtype: compute dtype; parameters and logits are float32.
    """

    num_classes: int = 400
    units: str | tuple[str, ...] = ALL
    stages: tuple[tuple[int, int, int, int], ...] = STAGES
    width: int = 32
    last: int = 1280
    dropout: float = 0.2
    remat: str = "none"
    dtype: Dtype = jnp.float32

    head_names = ("classifier",)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Every block that expands."""
        blocks = self._blocks()
        return tuple(expansion_slot(name) for name, how in blocks if how[1] > 1)

    def __call__(
        self, x: jax.Array, *, train: bool = False, masks: Masks | None = None
    ) -> jax.Array:
        """Classifies clips.

        Args:
          x: [B, T, H, W, C], normalised.
          train: batch statistics and dropout (rng stream 'dropout').
          masks: factors of the paths, see `stjax.layers.slots`.

        Returns:
          Logits [B, num_classes] float32.

        Raises:
          UserError: a field, a mask or the shape of `x` cannot work.
        """
        return self._run(x, train, masks, head=True)

    def features(
        self, x: jax.Array, *, train: bool = False, masks: Masks | None = None
    ) -> jax.Array:
        """The map before pooling: [B, T, H, W, C] -> [B, T, H/32, W/32, last]."""
        return self._run(x, train, masks, head=False)

    @nn.compact
    def _run(self, x, train: bool, masks, *, head: bool) -> jax.Array:
        check_clip(x)
        masks = check_masks(self.slots, masks)
        built = built_paths(self.slots, self.units)
        stem = ConvNorm(self.width, (1, 3, 3), (1, 2, 2), dtype=self.dtype, name="stem")
        x = constrain_rows(nn.relu6(stem(x, train)))
        block = rematerialised(FusionInvertedResidual, self.remat, static_argnums=(2,))
        for name, how in self._blocks():
            step = block(built.get(name, ()), *how, self.dtype, name=name)
            x = step(x, train, masks.get(name))
            x = constrain_rows(x) if how[-1] > 1 else x
        top = ConvNorm(self.last, (1, 1, 1), dtype=self.dtype, name="top")
        x = nn.relu6(top(x, train))
        return self._head(x, train) if head else x

    def _blocks(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Names, and channels, expansion and stride."""
        found = []
        for expansion, features, count, stride in self.stages:
            for i in range(count):
                how = (features, expansion, stride if i == 0 else 1)
                found.append((f"block{len(found)}", how))
        return found

    def _head(self, x, train: bool) -> jax.Array:
        x = nn.Dropout(self.dropout, deterministic=not train)(clip_means(x))
        head = nn.Dense(
            self.num_classes, kernel_init=torch_kernel_init, name="classifier"
        )
        return head(x)
