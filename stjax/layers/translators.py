"""The temporal modules of `SimVP`, by name, and the frame that stacks their blocks.

The frames of a clip are stacked along channels, time major: [B, h, w, T * C]. A
translator maps that to [B, h, w, T' * C]. All but IncepU are MetaFormer blocks in one
frame (OpenSTL's ``MidMetaNet``).
"""

import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import unknown
from stjax.layers.common import Dtype, conv
from stjax.layers.remat import rematerialised
from stjax.layers.stacking import Cycle, scan_blocks
from stjax.stacked import stack_name

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
    **{"gsta": 9, "mixed": 9, "moga": 9, "tau": 9, "van": 9},  # 7x7, dilated by 3
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
    scan: bool = False,
) -> nn.Module:
    """A translator: ``module(x, out_features, train=...)``, see `MidMetaNet`.

    IncepU has no use for `mlp_ratio`, `drop_path_rates` and `scan`.
    """
    if translator in NETWORKS:
        return translator_class(translator)(hid_t, n_t, remat, dtype, name=name)
    fields = (hid_t, n_t, mlp_ratio, drop_path_rates, remat, scan, dtype)
    return MidMetaNet(translator, *fields, name=name)


class MetaBlock(nn.Module):
    """A translator block and, where the width changes, a 1x1 reduction."""

    translator: str
    features: int
    index: int
    mlp_ratio: float
    drop_path_rate: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, rate: jax.Array | None = None
    ) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, features]; `rate` replaces drop_path_rate."""
        resizes = x.shape[-1] != self.features
        cls = translator_class(self.translator)
        fields = {
            "mlp_ratio": self.mlp_ratio,
            "drop_path_rate": self.drop_path_rate if rate is None else rate,
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
    With `scan` the equal blocks in the middle are one loop, see
    `stjax.layers.stacking`. All of one width are equal, but the first and Swin's,
    every second of which is.
    """

    translator: str
    hid_t: int
    n_t: int
    mlp_ratio: float
    drop_path_rates: tuple[float, float]
    remat: str
    scan: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, out_features: int, *, train: bool) -> jax.Array:
        """[B, h, w, D_in] -> [B, h, w, out_features]."""
        block = rematerialised(MetaBlock, self.remat, static_argnums=(2,))
        first, last = self.drop_path_rates
        rates = [first + (last - first) * i / (self.n_t - 1) for i in range(self.n_t)]
        i, equal = 0, self._equal(out_features)
        while i < self.n_t:
            if i == equal.start and len(equal) > self._cycle:
                x = self._loop(x, equal, [rates[k] for k in equal], train)
                i = equal.stop
                continue
            features = out_features if i == self.n_t - 1 else self.hid_t
            fields = dict(self._fields(i), features=features, drop_path_rate=rates[i])
            x = block(name=f"enc_{i}", **fields)(x, train)
            i += 1
        return x

    def _fields(self, index: int) -> tuple[tuple[str, object], ...]:
        """Of a `MetaBlock` in the middle."""
        return (
            ("translator", self.translator),
            ("features", self.hid_t),
            ("index", index),
            ("mlp_ratio", self.mlp_ratio),
            ("drop_path_rate", 0.0),
            ("dtype", self.dtype),
        )

    def _equal(self, out_features: int) -> range:
        """The blocks that make one loop, none without `scan`."""
        if not self.scan:
            return range(0)
        stop = self.n_t - (out_features != self.hid_t)
        return range(1, stop - (stop - 1) % self._cycle)

    @property
    def _cycle(self) -> int:
        """After how many blocks they repeat."""
        return getattr(translator_class(self.translator), "cycle", 1)

    def _loop(self, x, blocks: range, rates: list[float], train: bool) -> jax.Array:
        cycle = self._cycle
        name = stack_name("enc_", blocks.start, len(blocks), cycle)
        kinds = [self._fields(i) for i in blocks[:cycle]]
        if cycle == 1:
            block = MetaBlock(name=name, **dict(kinds[0]))
        else:
            block = Cycle(tuple((MetaBlock, kind) for kind in kinds), name=name)
            rates = np.reshape(rates, (-1, cycle))
        count = len(blocks) // cycle
        return scan_blocks(block, x, train, count, rates=rates, remat=self.remat)
