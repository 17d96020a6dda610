"""The first layers of video ResNets: how soon time is reduced differs by project."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.layers.bottleneck3d import StemConv
from stjax.layers.common import Dtype
from stjax.ops.pooling import max_pool


@dataclasses.dataclass(frozen=True)
class Reduction:
    """Reductions of time in the stem, and the padding of its pool.

    Attributes:
      conv: stride of the convolution in time.
      pool: window and stride of the 3x3 max-pool in time.
      pad: padding of that pool in time and in space.
      after: frames that the max-pool after res2 spans, its stride being 2; 1: none.
    """

    conv: int
    pool: tuple[int, int]
    pad: tuple[int, int]
    after: int


STEMS = {
    "slowfast": Reduction(1, (1, 1), (0, 1), 2),
    "paper": Reduction(2, (3, 2), (1, 1), 3),
    "caffe2": Reduction(1, (1, 1), (0, 0), 2),
    "caffe2_long": Reduction(2, (2, 2), (0, 0), 2),
    "slowfast_nopool": Reduction(1, (1, 1), (0, 1), 1),
    "mmaction2": Reduction(2, (1, 2), (0, 1), 2),
}
"""PySlowFast; Table 1 of the paper; video-nonlocal-net's ``resnet_video`` (8x8, 32x4)
and ``resnet_video_org`` (32x2, 128x1); PySlowFast's C2D without a pool in time;
mmaction2. Weights fit all of them."""


class Stem(nn.Module):
    """Convolution, BN, ReLU and max-pool.

    Attributes:
      features: channels.
      window: frames that the convolution spans.
      stem: a name in `STEMS`.
      frozen_bn: see `BatchNorm`.
      dtype: compute dtype.
    """

    features: int
    window: int
    stem: str
    frozen_bn: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> [B, T', H/4, W/4, features].

        Raises:
          UserError: the clip is too short or too small.
        """
        how = STEMS[self.stem]
        frames = range(1, 99)
        before_pool2 = 2 if how.after == 2 else 1  # 3 is padded
        least = next(t for t in frames if _frames(t, how) >= before_pool2)
        if x.shape[1] < least or min(x.shape[2:4]) < 32:
            raise UserError(
                f"clips need at least {least} frames of 32x32 with stem "
                f"{self.stem!r}, got {x.shape[1]} of {x.shape[2]}x{x.shape[3]}"
            )
        x = StemConv(
            self.features,
            self.window,
            how.conv,
            self.frozen_bn,
            self.dtype,
            name="pathway0_stem",
        )(x, train)
        pads = (how.pad[0], how.pad[1], how.pad[1])
        return max_pool(x, (how.pool[0], 3, 3), (how.pool[1], 2, 2), pads)


def pool2(x: jax.Array, stem: str) -> jax.Array:
    """Halves the frames after res2, with most stems."""
    window = STEMS[stem].after
    if window == 1:
        return x
    pad = window // 2 if window % 2 else 0
    return max_pool(x, (window, 1, 1), (2, 1, 1), (pad, 0, 0))


def _frames(t: int, how: Reduction) -> int:
    """Frames after the stem."""
    t = -(-t // how.conv)
    return (t + 2 * how.pad[0] - how.pool[0]) // how.pool[1] + 1
