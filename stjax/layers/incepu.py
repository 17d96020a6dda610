"""SimVP's first translator: a U-Net of grouped inception blocks, no resampling.

Gao et al., CVPR 2022 (arXiv 2206.05099). Names follow OpenSTL's ``MidIncepNet``.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.layers.common import Dtype, conv
from stjax.layers.remat import rematerialised

KERNELS = (3, 5, 7, 11)
GROUPS = 8


class GroupConv(nn.Module):
    """Grouped convolution, GroupNorm, LeakyReLU of slope 0.2.

    One group only if the input channels are not divisible by 8.
    """

    features: int
    kernel_size: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, features]."""
        d = x.shape[-1]
        groups = 1 if d % GROUPS else GROUPS
        if self.features % groups:
            raise UserError(
                f"translator 'incepu' needs widths (hid_t and T * hid_s) divisible by "
                f"{groups}, got {self.features}"
            )
        kw = {"groups": groups, "dtype": self.dtype}
        y = conv(d, self.features, self.kernel_size, name="conv", **kw)(x)
        kw = {"epsilon": 1e-5, "use_fast_variance": False, "dtype": self.dtype}
        y = nn.GroupNorm(groups, name="norm", **kw)(y)
        return nn.leaky_relu(y, 0.2)


class GInception(nn.Module):
    """1x1 to `hidden`, then the sum of grouped convolutions of four kernel sizes."""

    hidden: int
    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, features]."""
        kw = {"dtype": self.dtype}
        x = conv(x.shape[-1], self.hidden, 1, name="conv1", **kw)(x)
        return sum(
            GroupConv(self.features, k, name=f"layers_{i}", **kw)(x)
            for i, k in enumerate(KERNELS)
        )


class MidIncepNet(nn.Module):
    """`n_t` blocks down, `n_t` up; each up block but the first sees a skip.

    Attributes:
      hid_t: channels between the blocks.
      n_t: blocks a side, at least 2.
      remat: a name in `stjax.layers.remat.REMAT`.
    """

    hid_t: int
    n_t: int
    remat: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, out_features: int, *, train: bool) -> jax.Array:
        """[B, h, w, D_in] -> [B, h, w, out_features]."""
        del train  # it has neither batch statistics nor drop path
        block = rematerialised(GInception, self.remat)

        def apply(name, features, x):
            return block(self.hid_t // 2, features, self.dtype, name=name)(x)

        skips = []
        for i in range(self.n_t):
            x = apply(f"enc_{i}", self.hid_t, x)
            skips.append(x)
        skips.pop()
        for i in range(self.n_t):
            if i > 0:
                x = jnp.concatenate([x, skips.pop()], axis=-1)
            last = i == self.n_t - 1
            x = apply(f"dec_{i}", out_features if last else self.hid_t, x)
        return x
