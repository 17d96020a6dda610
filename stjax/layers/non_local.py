"""The non-local block (Wang et al., CVPR 2018, arXiv 1711.07971)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError, unknown
from stjax.layers.common import (
    BatchNorm,
    DropPath,
    Dtype,
    conv,
    fan_out_init,
    layer_scale,
)
from stjax.layers.large_kernel import MixMlp
from stjax.ops.pairwise import aggregate
from stjax.ops.pooling import max_pool
from stjax.sharding.activations import fold, splits_rows, unfold

ATTEND = ("spacetime", "space", "time")


class NonLocal(nn.Module):
    """``z = BN(W_z y) + x``, y the non-local mean in a bottleneck (figure 2).

    The block is the identity at birth: the scale of the BN is zero or, without one,
    the kernel of W_z. Names follow PySlowFast's ``Nonlocal``; the concatenation's
    ``w_f`` is mmcv's ``concat_project``.

    The paper and Caffe2's video-nonlocal-net, whose runs are the published ones, draw
    the kernels from N(0, .01^2), the default; PySlowFast's initialiser overwrites that
    with He's (``init_std=None``) and gains less from the blocks.

    Attributes:
      bottleneck: channels of theta, phi and g; None: half of the input's.
      pairwise: a name in `stjax.ops.pairwise.PAIRWISE`; ``"gaussian"`` compares the
        input itself and has neither theta nor phi.
      use_scale: divide the softmax's logits by the root of their channels, as the
        official code does; the paper does not.
      pool: keys and values are max-pooled by this factor in height and width.
      pool_first: pool before phi and g (Caffe2 and PySlowFast, so all of their
        checkpoints) or after them (the paper's text, mmaction2). Not the same.
      attend: the positions that one sees: all, those of its frame ("space") or those
        of its place in all frames ("time", never pooled).
      temporal_groups: groups of consecutive frames that see nothing of each other.
      norm: BN after W_z; its scale is zero at birth, or else W_z is.
      frozen_bn: see `stjax.layers.common.BatchNorm`.
      init_std: of the kernels; None for N(0, 2 / fan_out).
      residual: add the input; without it only ``BN(W_z y)`` is returned.
      impl: of the aggregate, see `stjax.ops.pairwise.aggregate`.
      dtype: compute dtype; the softmax is float32.
    """

    bottleneck: int | None = None
    pairwise: str = "embedded_gaussian"
    use_scale: bool = True
    pool: int = 1
    pool_first: bool = True
    attend: str = "spacetime"
    temporal_groups: int = 1
    norm: bool = True
    frozen_bn: bool = False
    init_std: float | None = 0.01
    residual: bool = True
    impl: str = "auto"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, C], [B, H, W, C] or [B, T, H, W, C] -> the same shape.

        Raises:
          UserError: for an unknown `pairwise`, `attend` or `impl`, or positions that
            cannot be grouped or pooled as asked.
        """
        self._check(x)
        y = self._unfold(self._aggregate(x), x.shape)
        init = self._kernel_init() if self.norm else nn.initializers.zeros
        y = self._conv(y, x.shape[-1], "conv_out", init)
        if self.norm:
            y = BatchNorm(
                scale_init=nn.initializers.zeros,
                frozen=self.frozen_bn,
                dtype=self.dtype,
                name="bn",
            )(y, train=train)
        return x + y if self.residual else y

    def _aggregate(self, x):
        """[B, *positions, C] -> [B', N, d], see `_fold`."""
        d = self.bottleneck or x.shape[-1] // 2

        def embed(name, pooled):
            y = self._pool(x) if pooled and self.pool_first else x
            y = self._conv(y, d, name, self._kernel_init())
            return self._pool(y) if pooled and not self.pool_first else y

        if self.pairwise == "gaussian":
            theta, phi = x.astype(self.dtype), self._pool(x).astype(self.dtype)
        else:
            theta, phi = embed("conv_theta", False), embed("conv_phi", True)
        weight = None
        if self.pairwise == "concatenation":
            weight = self.param("w_f", nn.initializers.normal(0.01), (2 * d,))
        return aggregate(
            self._fold(theta),
            self._fold(phi),
            self._fold(embed("conv_g", True)),
            pairwise=self.pairwise,
            scale=theta.shape[-1] ** -0.5 if self.use_scale else 1.0,
            weight=weight,
            impl=self.impl,
            spread=self.attend != "time" and splits_rows(x.shape),
        )

    def _check(self, x):
        if self.attend not in ATTEND:
            raise unknown("value of attend", self.attend, ATTEND)
        without = {3: "space", 4: "time"}.get(x.ndim)
        if self.attend == without or (x.ndim == 4 and self.temporal_groups > 1):
            raise UserError(
                f"attend={self.attend!r}, temporal_groups={self.temporal_groups} "
                f"need clips [B, T, H, W, C], got an input {tuple(x.shape)}"
            )
        if x.ndim != 4 and x.shape[1] % self.temporal_groups:
            raise UserError(
                f"{x.shape[1]} frames do not divide into "
                f"temporal_groups={self.temporal_groups}"
            )

    def _fold(self, y):
        """Axes that are not attended to join the batch: [B, ...] -> [B', N, d]."""
        d = y.shape[-1]
        if y.ndim == 5 and self.attend == "time":
            y = self._grouped(y)
            return y.transpose(0, 2, 3, 1, 4).reshape(-1, y.shape[1], d)
        return fold(self._grouped(y))

    def _grouped(self, y):
        """Groups of frames, or single ones, join the batch."""
        if y.ndim == 4:
            return y
        if self.attend == "space":
            return y.reshape(-1, *y.shape[2:])
        return y.reshape(-1, y.shape[1] // self.temporal_groups, *y.shape[2:])

    def _unfold(self, y, shape):
        """[B', N, d] -> [*shape, d], `shape` being that of the unfolded input."""
        if self.attend == "time" and len(shape) == 5:
            y = y.reshape(-1, *shape[2:4], *y.shape[1:]).transpose(0, 3, 1, 2, 4)
        else:
            x = jax.ShapeDtypeStruct(shape, y.dtype)
            y = unfold(y, jax.eval_shape(self._grouped, x).shape)
        return y.reshape(*shape[:-1], -1)

    def _pool(self, x):
        """Maximum over windows of height and width."""
        if self.pool == 1 or self.attend == "time":
            return x
        sides = x.shape[-3:-1]
        if x.ndim == 3 or min(sides) < self.pool:
            raise UserError(
                f"pool={self.pool} needs maps with sides of at least {self.pool}, "
                f"got an input {tuple(x.shape)}"
            )
        window = (1,) * (x.ndim - 4) + (self.pool,) * 2
        return max_pool(x, window, window)

    def _conv(self, x, features, name, init):
        return conv(
            x.shape[-1],
            features,
            (1,) * (x.ndim - 2),
            ndim=x.ndim - 2,
            kernel_init=init,
            dtype=self.dtype,
            name=name,
        )(x)

    def _kernel_init(self):
        if self.init_std is None:
            return fan_out_init()
        return nn.initializers.normal(self.init_std)


class NonLocalBlock(nn.Module):
    """The non-local block as the temporal module of `SimVP`; not in OpenSTL.

    Positions are those of the map on which the frames are stacked along channels, so
    that one affinity, in a bottleneck of half the channels, compares whole histories
    of two places, and the 1x1 convolutions mix time. As in the other blocks a BN comes
    before it and the MixMlp branch after it. Both branches vanish at birth (BN scale
    and layer scale are zero): the block starts as the identity.
    """

    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        drop_path = DropPath(self.drop_path_rate)
        y = BatchNorm(dtype=self.dtype, name="norm1")(x, train=train)
        y = NonLocal(init_std=None, residual=False, dtype=self.dtype, name="attn")(
            y, train
        )
        x = x + drop_path(y, train=train)
        y = BatchNorm(dtype=self.dtype, name="norm2")(x, train=train)
        y = MixMlp(self.mlp_ratio, self.dtype, name="mlp")(y)
        return x + drop_path(layer_scale(self, "layer_scale_2", y, 0.0), train=train)
