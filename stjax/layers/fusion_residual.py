"""Fusion units in residual blocks: ResNet, ResNeXt and MobileNetV2.

A unit takes the place of the block's first convolution, 1x1x1. See
`stjax.layers.fusion`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import BatchNorm, Dtype, fan_out_init
from stjax.layers.fusion import UNITS, conv3d
from stjax.layers.slots import Slot, gated

_CONVS = (("s", "conv1", (1, 1, 1)), ("t", "conv1_t", (3, 1, 1)))
_EXPANSIONS = (("s", "expand", (1, 1, 1)), ("t", "temporal", (3, 1, 1)))


class FusionBottleneck(nn.Module):
    """1x1x1 (or 3x1x1, or both) down, 1x3x3 with the stride, 1x1x1 up.

    The convolutions of the unit, ``conv1`` (path s) and ``conv1_t`` (t), see the same
    input and are added before ``bn1``. Other names: torchvision's.

    Attributes:
      paths: that are built.
      inner: channels in the middle.
      features: channels of the result.
      stride: of height and width.
      groups: of the 1x3x3 (ResNeXt).
      dtype: compute dtype.
    """

    paths: tuple[str, ...]
    inner: int
    features: int
    stride: int = 1
    groups: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, mask: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H/stride, W/stride, features]."""
        parts = []
        for i, (path, name, window) in enumerate(_CONVS):
            if path in self.paths:
                y = self._conv(x, self.inner, window, name)
                parts.append(gated(y, mask, i))
        y = nn.relu(self._norm(sum(parts), train, "bn1"))
        y = self._conv(y, self.inner, (1, 3, 3), "conv2", self.stride, self.groups)
        y = nn.relu(self._norm(y, train, "bn2"))
        y = self._conv(y, self.features, (1, 1, 1), "conv3")
        y = self._norm(y, train, "bn3")
        if x.shape[-1] != self.features or self.stride > 1:
            x = self._conv(x, self.features, (1, 1, 1), "downsample_0", self.stride)
            x = self._norm(x, train, "downsample_1")
        return nn.relu(x + y)

    def _conv(self, x, features, window, name, stride=1, groups=1):
        return conv3d(
            x,
            features,
            window,
            name,
            strides=(1, stride, stride),
            groups=groups,
            kernel_init=fan_out_init(groups),
            dtype=self.dtype,
        )

    def _norm(self, x, train, name):
        return BatchNorm(dtype=self.dtype, name=name)(x, train=train)


class FusionInvertedResidual(nn.Module):
    """MobileNetV2's block: expand by a unit, depthwise 1x3x3, project.

    Each path is a convolution with its own BN and ReLU6, which are added: ``expand``
    (s) and ``temporal`` (t). A block that does not expand has no unit.

    Attributes:
      paths: that are built.
      features: channels of the result.
      expansion: of the channels in the middle; 1: neither convolution nor unit.
      stride: of height and width.
      dtype: compute dtype.
    """

    paths: tuple[str, ...]
    features: int
    expansion: int
    stride: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, mask: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H/stride, W/stride, features]."""
        inner, y = x.shape[-1] * self.expansion, x
        if self.expansion > 1:
            parts = []
            for i, (path, name, window) in enumerate(_EXPANSIONS):
                if path in self.paths:
                    step = ConvNorm(inner, window, dtype=self.dtype, name=name)
                    parts.append(gated(nn.relu6(step(x, train)), mask, i))
            y = sum(parts)
        window, s = (1, 3, 3), (1, self.stride, self.stride)
        step = ConvNorm(inner, window, s, inner, dtype=self.dtype, name="depthwise")
        y = nn.relu6(step(y, train))
        y = ConvNorm(self.features, (1, 1, 1), dtype=self.dtype, name="project")(
            y, train
        )
        same = self.stride == 1 and x.shape[-1] == self.features
        return x + y if same else y


class ConvNorm(nn.Module):
    """A convolution ``conv`` and its BN ``norm``.

    Attributes:
      features: channels of the result.
      window: of the convolution.
      strides: likewise.
      groups: likewise.
      dtype: compute dtype.
    """

    features: int
    window: tuple[int, int, int]
    strides: tuple[int, int, int] = (1, 1, 1)
    groups: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> [B, T', H', W', features]."""
        x = conv3d(
            x,
            self.features,
            self.window,
            "conv",
            strides=self.strides,
            groups=self.groups,
            kernel_init=fan_out_init(self.groups),
            dtype=self.dtype,
        )
        return BatchNorm(dtype=self.dtype, name="norm")(x, train=train)


def bottleneck_slot(name: str) -> Slot:
    """The slot of a `FusionBottleneck`: S+ST folds into ST."""
    modules = tuple((path, (conv,)) for path, conv, _ in _CONVS)
    return Slot(name, UNITS, modules, folds=(("s", "t"),))


def expansion_slot(name: str) -> Slot:
    """The slot of a `FusionInvertedResidual` that expands."""
    modules = tuple((path, (conv,)) for path, conv, _ in _EXPANSIONS)
    return Slot(name, UNITS, modules)
