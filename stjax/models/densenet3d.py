"""DenseNet on video with a fusion unit in every layer (CVPR 2020, arXiv 2004.04981).

DenseNet-121 (Huang et al., 2017) with a stem of 5x7x7, a max-pool over 3x3x3, and units
of S, ST or S+ST in its 58 dense layers and 3 transitions. Stem and pool look at several
frames, so the network of S alone is not a 2-D network; the paper's supplement admits
it for the pools. Names follow the original's state dict.

Where the original's code does otherwise: its BN has scale zero at birth, which cannot
train without ImageNet's weights; its search also gates the features of the classifier.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.layers.common import BatchNorm, Dtype, torch_kernel_init
from stjax.layers.fusion import (
    DenseLayer,
    Transition,
    check_masks,
    conv3d,
    dense_slot,
    transition_slot,
)
from stjax.layers.remat import rematerialised
from stjax.layers.slots import ALL, Masks, Slot, built_paths
from stjax.ops.pooling import max_pool
from stjax.sharding.activations import clip_means, constrain_rows

_ROOT = "features"


class DenseNet3D(nn.Module):
    """DenseNet-121 with units; the defaults are the template of the paper.

    Attributes:
      num_classes: of the classifier.
      units: of the slots, see `stjax.layers.slots`: one name for all, one a slot, or
        "all". Slots in order: the layers of a block, then its transition.
      temporal_stride: 1, or 8: stem, max-pool and first transition halve the frames.
        The paper's SSv1 networks keep them, its printed 31 GFLOPs are of 8.
      temporal_only: dense layers also have the units T, S+T, T+ST and S+T+ST, the
        paper's whole set, which it did not search.
      growth: channels that a layer adds.
      blocks: layers of each dense block.
      bn_size: channels inside a layer over `growth`.
      width: channels of the stem.
      dropout: before the classifier; 0 while gates are trained.
      remat: ``"none"``, or recompute layers in the backward pass, all of them
        (``"full"``) or all but matrix products (``"dots"``).
      dtype: compute dtype; parameters and logits are float32.
    """

    num_classes: int = 400
    units: str | tuple[str, ...] = ALL
    temporal_stride: int = 1
    temporal_only: bool = False
    growth: int = 32
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    bn_size: int = 4
    width: int = 64
    dropout: float = 0.5
    remat: str = "none"
    dtype: Dtype = jnp.float32

    head_names = ("classifier",)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The layers of every block, each block followed by its transition."""
        found = []
        for b, layers in enumerate(self.blocks, 1):
            for i in range(1, layers + 1):
                name = f"{_ROOT}/denseblock{b}/denselayer{i}"
                found.append(dense_slot(name, self.temporal_only))
            if b < len(self.blocks):
                found.append(transition_slot(f"{_ROOT}/transition{b}"))
        return tuple(found)

    def setup(self):
        """Makes the trunk and the classifier.

        Raises:
          UserError: a field has no such value.
        """
        if self.temporal_stride not in (1, 8):
            raise UserError(
                f"temporal_stride is {self.temporal_stride}; it has to be 1 or 8"
            )
        built = built_paths(self.slots, self.units)
        self.trunk = _Trunk(
            tuple(built.items()),
            self.temporal_stride,
            self.growth,
            self.blocks,
            self.bn_size,
            self.width,
            self.remat,
            self.dtype,
            name=_ROOT,
        )
        self.drop = nn.Dropout(self.dropout)
        self.classifier = nn.Dense(self.num_classes, kernel_init=torch_kernel_init)

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
        x = self.features(x, train=train, masks=masks)
        x = self.drop(clip_means(x), deterministic=not train)
        return self.classifier(x)

    def features(
        self, x: jax.Array, *, train: bool = False, masks: Masks | None = None
    ) -> jax.Array:
        """The map before pooling: [B, T, H, W, C] -> [B, T', H/32, W/32, C']."""
        check_clip(x, self.temporal_stride)
        return self.trunk(x, train, check_masks(self.slots, masks))


def check_clip(x: jax.Array, frames: int = 1) -> None:
    """Raises UserError unless `x` is a clip of that many frames and 32x32 pixels."""
    if x.ndim != 5:
        raise UserError(f"clips are [B, T, H, W, C], got the shape {x.shape}")
    if x.shape[1] < frames or min(x.shape[2:4]) < 32:
        raise UserError(
            f"clips need at least {frames} frames of 32x32, got {x.shape[1]} of"
            f" {x.shape[2]}x{x.shape[3]}"
        )


class _Trunk(nn.Module):
    """All but the classifier; `built` are the paths of every slot."""

    built: tuple[tuple[str, tuple[str, ...]], ...]
    temporal_stride: int
    growth: int
    blocks: tuple[int, ...]
    bn_size: int
    width: int
    remat: str
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, masks: Masks) -> jax.Array:
        paths = dict(self.built)
        t = 2 if self.temporal_stride == 8 else 1
        transition = rematerialised(Transition, self.remat, static_argnums=(2,))
        strides, window = (t, 2, 2), (5, 7, 7)
        x = conv3d(x, self.width, window, "conv0", strides=strides, dtype=self.dtype)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm0")(x, train=train))
        x = constrain_rows(max_pool(x, (3, 3, 3), strides, (1, 1, 1)))
        for b, layers in enumerate(self.blocks, 1):
            name = f"denseblock{b}"
            inside = [f"{_ROOT}/{name}/denselayer{i + 1}" for i in range(layers)]
            block = _DenseBlock(
                tuple(paths[slot] for slot in inside),
                self.growth,
                self.bn_size * self.growth,
                self.remat,
                self.dtype,
                name=name,
            )
            x = block(x, train, [masks.get(slot) for slot in inside])
            if b < len(self.blocks):
                name, stride = f"transition{b}", t if b == 1 else 1
                slot = f"{_ROOT}/{name}"
                step = transition(
                    paths[slot], x.shape[-1] // 2, stride, self.dtype, name=name
                )
                x = constrain_rows(step(x, train, masks.get(slot)))
        return nn.relu(BatchNorm(dtype=self.dtype, name="norm5")(x, train=train))


class _DenseBlock(nn.Module):
    """Layers that each see the channels of all before them."""

    paths: tuple[tuple[str, ...], ...]
    growth: int
    inner: int
    remat: str
    dtype: Dtype

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, masks: list[jax.Array | None]
    ) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, C + growth * len(paths)]."""
        layer = rematerialised(DenseLayer, self.remat, static_argnums=(2,))
        for i, (paths, mask) in enumerate(zip(self.paths, masks, strict=True), 1):
            step = layer(
                paths, self.growth, self.inner, self.dtype, name=f"denselayer{i}"
            )
            x = jnp.concatenate([x, step(x, train, mask)], -1)
        return x
