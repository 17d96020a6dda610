"""The temporal modules of `SimVP`, by name, and the frame that stacks their blocks.

The frames of a clip are stacked along channels, time major: [B, h, w, T * C]. A
translator maps that to [B, h, w, T' * C]. All but IncepU are MetaFormer blocks in one
frame (OpenSTL's ``MidMetaNet``).
"""

import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import unknown
from stjax.layers.common import Dtype, conv
from stjax.layers.remat import rematerialised

# A block maps [B, h, w, D] to the same shape: Block(dtype) and whichever of
# mlp_ratio, drop_path_rate, index (its place), resizes (a reduction follows) it has.
BLOCKS = {
    "convmixer": "stjax.layers.convmixer:ConvMixerBlock",
    "convnext": "stjax.layers.convnext:ConvNeXtBlock",
    "gsta": "stjax.layers.gsta:GSTABlock",
    "hornet": "stjax.layers.hornet:HorNetBlock",
    "mlpmixer": "stjax.layers.mlpmixer:MlpMixerBlock",
    "moga": "stjax.layers.moga:MogaBlock",
    "non_local": "stjax.layers.non_local:NonLocalBlock",
    "poolformer": "stjax.layers.poolformer:PoolFormerBlock",
    "swin": "stjax.layers.swin:SwinBlock",
    "tau": "stjax.layers.tau:TAUBlock",
    "uniformer": "stjax.layers.uniformer_block:UniFormerBlock",
    "van": "stjax.layers.van:VANBlock",
    "vit": "stjax.layers.vit:ViTBlock",
}
# Whole networks: Network(hid_t, n_t, remat, dtype).
NETWORKS = {"incepu": "stjax.layers.incepu:MidIncepNet"}
TRANSLATORS = BLOCKS | NETWORKS
# Rows above (or below) that a row depends on, in one layer: half the widest kernel.
_REACH = {
    **{"gsta": 9, "moga": 9, "tau": 9, "van": 9},  # 7x7, dilated by 3
    **{"convmixer": 5, "incepu": 5},
    **{"convnext": 3, "hornet": 3},
}


def reach(translator: str) -> int:
    """Rows above (or below) that a row depends on, in one layer.

    Where layers compare all rows it is that of the convolutions between.
    """
    return _REACH.get(translator, 1)


def translator_class(name: str) -> type[nn.Module]:
    """The class of a translator's block, or network, by its name.

    Raises:
      UserError: for an unknown name.
    """
    if name not in TRANSLATORS:
        raise unknown("translator", name, TRANSLATORS)
    module, _, cls = TRANSLATORS[name].partition(":")
    return getattr(importlib.import_module(module), cls)


def make_translator(
    translator: str,
    hid_t: int,
    n_t: int,
    mlp_ratio: float,
    drop_path_rates: tuple[float, float],
    remat: str,
    dtype: Dtype,
    name: str,
) -> nn.Module:
    """A translator: ``module(x, out_features, train=...)``, see `MidMetaNet`.

    IncepU has no use for `mlp_ratio` and `drop_path_rates`.
    """
    if translator in NETWORKS:
        return translator_class(translator)(hid_t, n_t, remat, dtype, name=name)
    return MidMetaNet(
        translator, hid_t, n_t, mlp_ratio, drop_path_rates, remat, dtype, name=name
    )


class MetaBlock(nn.Module):
    """A translator block and, where the width changes, a 1x1 reduction."""

    translator: str
    features: int
    index: int
    mlp_ratio: float
    drop_path_rate: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, features]."""
        resizes = x.shape[-1] != self.features
        cls = translator_class(self.translator)
        fields = {
            "mlp_ratio": self.mlp_ratio,
            "drop_path_rate": self.drop_path_rate,
            "index": self.index,
            "resizes": resizes,
        }
        kw = {k: v for k, v in fields.items() if k in cls.__dataclass_fields__}
        x = cls(dtype=self.dtype, name="block", **kw)(x, train=train)
        if resizes:
            kw = {"dtype": self.dtype, "name": "reduction"}
            x = conv(x.shape[-1], self.features, 1, **kw)(x)
        return x


class MidMetaNet(nn.Module):
    """`n_t` blocks on frames stacked along channels: T * C -> hid_t … -> T' * C.

    Drop-path rates go linearly from the first to the second of `drop_path_rates`.
    """

    translator: str
    hid_t: int
    n_t: int
    mlp_ratio: float
    drop_path_rates: tuple[float, float]
    remat: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, out_features: int, *, train: bool) -> jax.Array:
        """[B, h, w, D_in] -> [B, h, w, out_features]."""
        block = rematerialised(MetaBlock, self.remat, static_argnums=(2,))
        first, last = self.drop_path_rates
        for i in range(self.n_t):
            features = out_features if i == self.n_t - 1 else self.hid_t
            rate = first + (last - first) * i / (self.n_t - 1)
            x = block(
                self.translator,
                features,
                i,
                self.mlp_ratio,
                rate,
                self.dtype,
                name=f"enc_{i}",
            )(x, train)
        return x
