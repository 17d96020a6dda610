"""ResNet and ResNeXt on video with a fusion unit in every block (arXiv 2004.04981).

The networks of the paper's supplement: torchvision's, with a stem of 5x7x7 and units in
the place of the first convolution of the blocks. The window of the max-pool, 3x3x3, is
DenseNet's; nobody has published that of these networks, and no weight depends on it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import BatchNorm, Dtype, fan_out_init, torch_kernel_init
from stjax.layers.fusion import check_masks, conv3d
from stjax.layers.fusion_residual import FusionBottleneck, bottleneck_slot
from stjax.layers.remat import rematerialised
from stjax.layers.slots import ALL, Masks, Slot, built_paths
from stjax.models.densenet3d import check_clip
from stjax.ops.pooling import max_pool
from stjax.sharding.activations import clip_means, constrain_rows


class FusionResNet(nn.Module):
    """``fusion_resnet50 fusion_resnext50 fusion_resnext101`` by their fields.

    S+ST and ST are the same function class here, see `stjax.search.fuse`.

    Attributes:
      num_classes: of the classifier.
      units: of the slots, one a block: see `stjax.layers.slots`.
      blocks: of each stage.
      groups: of the 1x3x3 (ResNeXt: 32).
      group_width: channels of a group in the first stage (ResNeXt-50: 4).
      width: channels of the stem.
      dropout: before the classifier.
      remat: ``"none"``, or recompute blocks in the backward pass, all of them
        (``"full"``) or all but matrix products (``"dots"``).
      dtype: compute dtype; parameters and logits are float32.
    """

    num_classes: int = 400
    units: str | tuple[str, ...] = ALL
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    groups: int = 1
    group_width: int = 64
    width: int = 64
    dropout: float = 0.5
    remat: str = "none"
    dtype: Dtype = jnp.float32

    head_names = ("fc",)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Every residual block."""
        return tuple(
            bottleneck_slot(f"layer{stage}_{i}")
            for stage, count in enumerate(self.blocks, 1)
            for i in range(count)
        )

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
        """The map before pooling: [B, T, H, W, C] -> [B, T, H/32, W/32, C']."""
        return self._run(x, train, masks, head=False)

    @nn.compact
    def _run(self, x, train: bool, masks, *, head: bool) -> jax.Array:
        check_clip(x)
        masks = check_masks(self.slots, masks)
        built = built_paths(self.slots, self.units)
        kernel = {"kernel_init": fan_out_init(), "dtype": self.dtype}
        x = conv3d(x, self.width, (5, 7, 7), "conv1", strides=(1, 2, 2), **kernel)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train=train))
        x = constrain_rows(max_pool(x, (3, 3, 3), (1, 2, 2), (1, 1, 1)))
        block = rematerialised(FusionBottleneck, self.remat, static_argnums=(2,))
        for stage, count in enumerate(self.blocks, 1):
            planes = self.width * 2 ** (stage - 1)
            # torchvision's rule; a group of the first stage has group_width channels.
            inner = planes * self.group_width * self.groups // 64
            for i in range(count):
                name = f"layer{stage}_{i}"
                step = block(
                    built[name],
                    inner,
                    4 * planes,
                    2 if stage > 1 and i == 0 else 1,
                    self.groups,
                    self.dtype,
                    name=name,
                )
                x = step(x, train, masks.get(name))
                x = constrain_rows(x) if i == 0 else x
        return self._head(x, train) if head else x

    def _head(self, x, train: bool) -> jax.Array:
        x = nn.Dropout(self.dropout, deterministic=not train)(clip_means(x))
        return nn.Dense(self.num_classes, kernel_init=torch_kernel_init, name="fc")(x)
