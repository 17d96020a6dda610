"""C2D and I3D: ResNets on video with non-local blocks.

Wang et al., "Non-local Neural Networks", CVPR 2018, arXiv 1711.07971. Names, and the
defaults where the paper and the projects differ, follow PySlowFast.
"""

import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError, unknown
from stjax.layers.bottleneck3d import Stage
from stjax.layers.common import Dtype
from stjax.layers.video_stem import STEMS, Stem, pool2
from stjax.sharding.activations import constrain, constrain_rows

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
INFLATED = ("none", "3x1x1", "3x3x3")
_PLACE = re.compile(r"res([2-5])_(\d+)")


def non_local_places(depth: int, count: int) -> tuple[str, ...]:
    """Residual blocks that the paper's non-local blocks follow.

    One: in res4, before the last residual block. Five: after every other block of
    res3 (2) and res4 (3). Ten: after all of res3 and res4 (ResNet-50). ResNet-101 has
    them "at the corresponding blocks": with five those of video-nonlocal-net, with ten
    six about evenly spaced, which nobody has released.

    Raises:
      UserError: `count` is none of 0, 1, 5 and 10.
    """
    last = BLOCKS[depth][2] - 2
    res4 = {
        0: (),
        1: (last,),
        5: (1, 3, 5) if depth == 50 else (6, 13, 20),
        10: range(6) if depth == 50 else (3, 6, 10, 13, 17, 20),
    }
    if count not in res4:
        raise UserError(
            f"non_local is {count}; it has to be 0, 1, 5 or 10 (other places: places)"
        )
    res3 = {5: (1, 3), 10: range(4)}.get(count, ())
    return (*(f"res3_{i}" for i in res3), *(f"res4_{i}" for i in res4[count]))


class Head(nn.Module):
    """Mean over a window, dropout, one linear layer; then a mean over windows.

    A map larger than the window has several positions. Their probabilities are
    averaged, not their features, which is fully convolutional testing (section 3 of
    the paper).

    Attributes:
      num_classes: K.
      window: side of the map in training.
      dropout: rate.
      multi_label: probabilities are sigmoids, not a softmax.
    """

    num_classes: int
    window: int
    dropout: float
    multi_label: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> logits [B, K] of the mean probabilities, float32."""
        x = x.astype(jnp.float32).mean(1)
        window = tuple(min(self.window, n) for n in x.shape[1:3])
        # By clips, not by channels: see `stjax.sharding.activations.clip_means`.
        x = constrain(nn.avg_pool(x, window), "batch", "any", "any")
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        init = nn.initializers.normal(0.01)
        x = nn.Dense(self.num_classes, kernel_init=init, name="projection")(x)
        x = x.reshape(x.shape[0], -1, self.num_classes)
        positions = x.shape[1]
        if positions == 1:
            return x[:, 0]
        if not self.multi_label:
            return _log_mean(jax.nn.log_softmax(x), positions)
        yes, no = jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(-x)
        return _log_mean(yes, positions) - _log_mean(no, positions)


def _log_mean(log_p, n):
    return jax.nn.logsumexp(log_p, axis=1) - math.log(n)


class ResNet3D(nn.Module):
    """A ResNet on clips: 2-D kernels (C2D) or some inflated over time (I3D).

    Names in the table of models: ``c2d_r50 c2d_r101 i3d_r50 i3d_r101``.

    Attributes:
      num_classes: of the head.
      multi_label: a clip has any number of classes (Charades).
      depth: 50 or 101 layers.
      inflated: kernels that span 3 frames in about every other block: none, the first
        1x1 (``"3x1x1"``, I3D) or the 3x3 (``"3x3x3"``, Table 2e); all but none also
        have a stem of 5x7x7.
      non_local: 0, 1, 5 or 10 non-local blocks, see `non_local_places`.
      places: other places for them, such as ("res3_1", "res4_5"): after those residual
        blocks. PySlowFast's ResNet-101 has res3_1 res3_3 res4_1 res4_3 res4_5.
      pairwise, use_scale, pool, pool_first, attend, impl: see `NonLocal`. Checkpoints
        of mmaction2 need ``pool_first=False, use_scale=False``.
      temporal_groups: of the blocks in res3 (video-nonlocal-net's 32x4 and 128x1
        models have groups of 4 frames there).
      non_local_norm: False: non-local blocks without BN.
      non_local_std: of their kernels at birth, see ``NonLocal.init_std``.
      stem: a name in `stjax.layers.video_stem.STEMS`; how soon time is reduced.
      width: channels of the stem.
      dropout: before the linear layer.
      window: side of the last map in training, 7 for frames of 224; larger maps are
        tested fully convolutionally, see `Head`.
      frozen_bn: BN by running statistics, scale and bias not trained.
      zero_init: the last BN of a residual block has scale zero at birth.
      remat: ``"none"``, or recompute blocks in the backward pass, all of them
        (``"full"``) or all but matrix products (``"dots"``).
      scan: run equal blocks of a stage in one loop: compiles faster; see
        `stjax.stacked` for the variables.
      dtype: compute dtype; parameters, softmax and logits are float32.
    """

    num_classes: int = 400
    multi_label: bool = False
    depth: int = 50
    inflated: str = "none"
    non_local: int = 0
    places: tuple[str, ...] = ()
    pairwise: str = "embedded_gaussian"
    use_scale: bool = True
    pool: int = 2
    pool_first: bool = True
    attend: str = "spacetime"
    temporal_groups: int = 1
    non_local_norm: bool = True
    non_local_std: float | None = 0.01
    impl: str = "auto"
    stem: str = "slowfast"
    width: int = 64
    dropout: float = 0.5
    window: int = 7
    frozen_bn: bool = False
    zero_init: bool = True
    remat: str = "none"
    scan: bool = False
    dtype: Dtype = jnp.float32

    def setup(self):
        """Makes s1 to s5 and the head.

        Raises:
          UserError: a field has no such value.
        """
        if self.depth not in BLOCKS:
            raise UserError(f"depth is {self.depth}; it has to be 50 or 101")
        if self.inflated not in INFLATED:
            raise unknown("value of inflated", self.inflated, INFLATED)
        if self.stem not in STEMS:
            raise unknown("stem", self.stem, STEMS)
        span = 1 if self.inflated == "none" else 5
        self.s1 = Stem(self.width, span, self.stem, self.frozen_bn, self.dtype)
        # Attributes name the modules: s2 to s5.
        for number, places in self._places().items():
            setattr(self, f"s{number}", self._stage(number, places))
        self.head = Head(self.num_classes, self.window, self.dropout, self.multi_label)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Classifies clips.

        Args:
          x: [B, T, H, W, C], normalised.
          train: batch statistics and dropout (rng stream 'dropout').

        Returns:
          Logits [B, num_classes] float32. Of frames larger than in training those of
          the mean probability over positions.

        Raises:
          UserError: a field or the shape of `x` cannot work.
        """
        return self.head(self.features(x, train=train), train)

    def features(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """The map before pooling: [B, T, H, W, C] -> [B, T', H/32, W/32, 32 width]."""
        if x.ndim != 5:
            raise UserError(f"clips are [B, T, H, W, C], got the shape {x.shape}")
        x = self.s2(constrain_rows(self.s1(x, train)), train)
        x = pool2(x, self.stem)
        return self.s5(self.s4(self.s3(x, train), train), train)

    def _stage(self, number: int, places: tuple[int, ...]) -> Stage:
        return Stage(
            inner=self.width * 2 ** (number - 2),
            stride=1 if number == 2 else 2,
            windows=self._windows(number),
            non_local=places,
            block={
                "frozen_bn": self.frozen_bn,
                "zero_init": self.zero_init,
                "dtype": self.dtype,
            },
            non_local_fields={
                "pairwise": self.pairwise,
                "use_scale": self.use_scale,
                "pool": self.pool,
                "pool_first": self.pool_first,
                "attend": self.attend,
                "temporal_groups": self.temporal_groups if number == 3 else 1,
                "norm": self.non_local_norm,
                "frozen_bn": self.frozen_bn,
                "init_std": self.non_local_std,
                "impl": self.impl,
                "dtype": self.dtype,
            },
            remat=self.remat,
            scan=self.scan,
        )

    def _windows(self, number: int) -> tuple[tuple[int, int], ...]:
        """Frames that the first two kernels of each block of a stage span."""
        count = BLOCKS[self.depth][number - 2]
        wide = {"none": (1, 1), "3x1x1": (3, 1), "3x3x3": (1, 3)}[self.inflated]
        # All of res2; blocks 0, 2, 4 ... of res3 and res4; 1 of res5.
        return tuple(
            wide if number == 2 or i % 2 == (number == 5) else (1, 1)
            for i in range(count)
        )

    def _places(self) -> dict[int, tuple[int, ...]]:
        """Stage -> indices of the blocks that a non-local block follows."""
        names = self.places or non_local_places(self.depth, self.non_local)
        found = {number: [] for number in (2, 3, 4, 5)}
        for name in names:
            match = _PLACE.fullmatch(name)
            stage, i = map(int, match.groups()) if match else (2, 99)
            if i >= BLOCKS[self.depth][stage - 2]:
                raise UserError(
                    f"places has {name!r}, which is no block of a ResNet-{self.depth};"
                    " write for example res4_5"
                )
            found[stage].append(i)
        return {number: tuple(indices) for number, indices in found.items()}
