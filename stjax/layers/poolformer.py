"""The PoolFormer block (Yu et al., CVPR 2022, arXiv 2111.11418) as a translator."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import DropPath, Dtype, layer_scale, trunc_normal_init
from stjax.layers.mlp import ConvMlp


class PoolFormerBlock(nn.Module):
    """Token mixing by a 3x3 mean minus the input; 1x1 MLP; GroupNorm of one group.

    OpenSTL's ``PoolFormerSubBlock``; the layer scales are 1e-5 at birth. The mean at
    a border is over the positions that exist.
    """

    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        drop_path = DropPath(self.drop_path_rate)

        def norm(name):
            kw = {"epsilon": 1e-5, "use_fast_variance": False, "dtype": self.dtype}
            return nn.GroupNorm(1, name=name, **kw)

        y = norm("norm1")(x)
        mean = nn.avg_pool(y, (3, 3), padding=((1, 1), (1, 1)), count_include_pad=False)
        # avg_pool divides by float32 counts.
        y = mean.astype(y.dtype) - y
        y = layer_scale(self, "layer_scale_1", y, 1e-5)
        x = x + drop_path(y, train=train)
        hidden = int(x.shape[-1] * self.mlp_ratio)
        y = norm("norm2")(x)
        y = ConvMlp(hidden, trunc_normal_init, self.dtype, name="mlp")(y)
        return x + drop_path(layer_scale(self, "layer_scale_2", y, 1e-5), train=train)
