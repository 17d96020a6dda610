"""Residual blocks and stages of video ResNets (PySlowFast's names)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import BatchNorm, Dtype, conv, fan_out_init
from stjax.layers.non_local import NonLocal
from stjax.layers.remat import rematerialised
from stjax.layers.stacking import Cycle, scan_blocks
from stjax.sharding.activations import constrain_rows
from stjax.stacked import stack_name


def conv3d(
    x: jax.Array,
    features: int,
    window: tuple[int, int, int],
    strides: tuple[int, int, int],
    dtype: Dtype,
    name: str,
) -> jax.Array:
    """[B, T, H, W, C] -> [B, T', H', W', features], no bias, He's N(0, 2 / fan_out)."""
    return conv(
        x.shape[-1],
        features,
        window,
        ndim=3,
        strides=strides,
        use_bias=False,
        kernel_init=fan_out_init(),
        dtype=dtype,
        name=name,
    )(x)


class Branch(nn.Module):
    """The residual branch: 1x1x1 down, 3x3 (with the stride), 1x1x1 up.

    Attributes:
      inner: channels in the middle.
      features: channels of the result.
      windows: frames that the first and the second kernel span; 1 or 3.
      stride: of height and width.
      frozen_bn: see `BatchNorm`.
      zero_init: the last BN has scale zero at birth.
      dtype: compute dtype.
    """

    inner: int
    features: int
    windows: tuple[int, int] = (1, 1)
    stride: int = 1
    frozen_bn: bool = False
    zero_init: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H/stride, W/stride, features]."""
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        a, b = self.windows
        s = (1, self.stride, self.stride)
        layers = (
            ("a", self.inner, (a, 1, 1), (1, 1, 1), ones),
            ("b", self.inner, (b, 3, 3), s, ones),
            ("c", self.features, (1, 1, 1), (1, 1, 1), zeros),
        )
        for name, features, window, strides, init in layers:
            x = conv3d(x, features, window, strides, self.dtype, name)
            norm = BatchNorm(
                scale_init=init if self.zero_init else ones,
                frozen=self.frozen_bn,
                dtype=self.dtype,
                name=f"{name}_bn",
            )
            x = norm(x, train=train)
            x = nn.relu(x) if name != "c" else x
        return x


class ResBlock(nn.Module):
    """``relu(x + branch(x))``; x is projected where the shape changes.

    Attributes: those of `Branch`.
    """

    inner: int
    features: int
    windows: tuple[int, int] = (1, 1)
    stride: int = 1
    frozen_bn: bool = False
    zero_init: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H/stride, W/stride, features]."""
        y = Branch(
            self.inner,
            self.features,
            self.windows,
            self.stride,
            self.frozen_bn,
            self.zero_init,
            self.dtype,
            name="branch2",
        )(x, train)
        if x.shape[-1] != self.features or self.stride > 1:
            strides = (1, self.stride, self.stride)
            x = conv3d(x, self.features, (1, 1, 1), strides, self.dtype, "branch1")
            norm = BatchNorm(frozen=self.frozen_bn, dtype=self.dtype, name="branch1_bn")
            x = norm(x, train=train)
        return nn.relu(x + y)


class StemConv(nn.Module):
    """Convolution 7x7 over `window` frames with stride (t, 2, 2), BN and ReLU.

    Attributes:
      features: channels.
      window: frames that the kernel spans.
      stride_t: stride in time.
      frozen_bn: see `BatchNorm`.
      dtype: compute dtype.
    """

    features: int
    window: int = 1
    stride_t: int = 1
    frozen_bn: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> [B, T/stride_t, H/2, W/2, features]."""
        strides = (self.stride_t, 2, 2)
        x = conv3d(x, self.features, (self.window, 7, 7), strides, self.dtype, "conv")
        norm = BatchNorm(
            frozen=self.frozen_bn, folded=True, dtype=self.dtype, name="bn"
        )
        return nn.relu(norm(x, train=train))


class Stage(nn.Module):
    """Residual blocks, some of them followed by a non-local block.

    Attributes:
      inner: channels inside a block; the result has four times as many.
      stride: of height and width, in the first block.
      windows: of each block, see `ResBlock`.
      non_local: indices of the blocks that a non-local block follows.
      block: fields of `ResBlock`.
      non_local_fields: fields of `NonLocal`.
      remat: "none", "full" or "dots", see `stjax.layers.remat`.
      scan: run equal blocks in one loop, see `stjax.layers.stacking`: those without a
        non-local block between them, all of one window or of two in turn.
    """

    inner: int
    stride: int
    windows: tuple[tuple[int, int], ...]
    non_local: tuple[int, ...]
    block: dict
    non_local_fields: dict
    remat: str = "none"
    scan: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H/stride, W/stride, 4 inner]."""
        residual = rematerialised(ResBlock, self.remat, static_argnums=(2,))
        attending = rematerialised(NonLocal, self.remat, static_argnums=(2,))
        for run, cycle in self._runs():
            i = run[-1]
            if len(run) > 1:
                x = self._loop(x, run, cycle, train)
            else:
                x = residual(name=f"pathway0_res{i}", **self._fields(i))(x, train)
                x = constrain_rows(x) if i == 0 else x
            if i in self.non_local:
                name = f"pathway0_nonlocal{i}"
                x = attending(name=name, **self.non_local_fields)(x, train)
        return x

    def _fields(self, index: int) -> dict:
        """Of a `ResBlock`."""
        return {
            "inner": self.inner,
            "features": 4 * self.inner,
            "windows": self.windows[index],
            "stride": self.stride if index == 0 else 1,
            **self.block,
        }

    def _runs(self) -> list[tuple[range, int]]:
        """Blocks that make one loop, or single ones; after how many they repeat."""
        count = len(self.windows)
        ends = sorted({0, count - 1, *self.non_local}) if self.scan else range(count)
        runs, start = [], 0
        for end in ends:
            blocks = range(start, end + 1)
            found = next((c for c in (1, 2) if self._repeat(blocks, c)), 1)
            kept = len(blocks) // found * found if self._repeat(blocks, found) else 0
            if kept > found:
                runs.append((blocks[:kept], found))
            else:
                kept = 0
            runs += [(range(i, i + 1), 1) for i in blocks[kept:]]
            start = end + 1
        return runs

    def _repeat(self, blocks: range, cycle: int) -> bool:
        of = self.windows
        return all(of[i] == of[i - cycle] for i in blocks[cycle:])

    def _loop(self, x, run: range, cycle: int, train: bool) -> jax.Array:
        name = stack_name("pathway0_res", run.start, len(run), cycle)
        kinds = [self._fields(i) for i in run[:cycle]]
        if cycle == 1:
            block = ResBlock(name=name, **kinds[0])
        else:
            block = Cycle(tuple((ResBlock, tuple(k.items())) for k in kinds), name=name)
        return scan_blocks(block, x, train, len(run) // cycle, remat=self.remat)
