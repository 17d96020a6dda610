"""The non-local block (Wang et al., CVPR 2018, arXiv 1711.07971)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

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


class NonLocal(nn.Module):
    """``z = BN(W_z y) + x``, y the non-local mean in a bottleneck (figure 2).

    The scale of the BN is zero at birth, so that the block is the identity. Names
    follow PySlowFast's ``Nonlocal``.

    Attributes:
      bottleneck: channels of theta, phi and g; None: half of the input's.
      pairwise: a name in `stjax.ops.pairwise.PAIRWISE`; ``"gaussian"`` compares the
        input itself and has neither theta nor phi.
      use_scale: divide the softmax's logits by the root of their channels, as the
        official code does; the paper does not.
      residual: add the input; without it only ``BN(W_z y)`` is returned.
      dtype: compute dtype; the softmax is float32.
    """

    bottleneck: int | None = None
    pairwise: str = "embedded_gaussian"
    use_scale: bool = True
    residual: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, *positions, C] -> the same; every position sees all of them.

        Raises:
          UserError: for an unknown `pairwise`.
        """
        b, *positions, c = x.shape
        d = self.bottleneck or c // 2
        ndim = len(positions)
        kw = {"ndim": ndim, "kernel_init": fan_out_init(), "dtype": self.dtype}

        def embed(name):
            return conv(c, d, (1,) * ndim, name=name, **kw)(x).reshape(b, -1, d)

        if self.pairwise == "gaussian":
            theta = phi = x.astype(self.dtype).reshape(b, -1, c)
        else:
            theta, phi = embed("conv_theta"), embed("conv_phi")
        scale = theta.shape[-1] ** -0.5 if self.use_scale else 1.0
        g = embed("conv_g")
        y = aggregate(theta, phi, g, pairwise=self.pairwise, scale=scale)
        y = y.reshape(b, *positions, d)
        y = conv(d, c, (1,) * ndim, name="conv_out", **kw)(y)
        norm = BatchNorm(scale_init=nn.initializers.zeros, dtype=self.dtype, name="bn")
        y = norm(y, train=train)
        return x + y if self.residual else y


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
        y = NonLocal(residual=False, dtype=self.dtype, name="attn")(y, train=train)
        x = x + drop_path(y, train=train)
        y = BatchNorm(dtype=self.dtype, name="norm2")(x, train=train)
        y = MixMlp(self.mlp_ratio, self.dtype, name="mlp")(y)
        return x + drop_path(layer_scale(self, "layer_scale_2", y, 0.0), train=train)
