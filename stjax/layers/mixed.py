"""Translator blocks with a choice of token mixer, from all four papers' units.

A block is BN, mixer, layer scale; BN, MixMlp, layer scale, as that of TAU and gSTA is.
Only the mixer with its layer scale is chosen; the rest is the block's own, whatever the
choice, so that units are compared by what they mix and a network of one unit, ``tau``
or ``gsta``, is the ordinary one. (TAU and its halves share their layer scale.) Frames
are stacked along channels: [B, h, w, D], D = T * C.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.layers.common import (
    BatchNorm,
    DropPath,
    Dtype,
    conv,
    fan_out_init,
    gelu,
    layer_scale,
)
from stjax.layers.gsta import GatedAttention
from stjax.layers.large_kernel import MixMlp, SpatialAttention
from stjax.layers.non_local import NonLocal
from stjax.layers.remat import rematerialised
from stjax.layers.self_attention import SelfAttention
from stjax.layers.slots import Masks, Slot, gated
from stjax.layers.tau import dynamic_attention, static_attention
from stjax.sharding.activations import fold, splits_rows, unfold

_TAU = ("tau/proj_1", "tau/proj_2", "layer_scale_1_tau")
_STATIC = tuple(
    f"tau/spatial_gating_unit/{name}" for name in ("conv0", "conv_spatial", "conv1")
)
_DYNAMIC = tuple(f"tau/spatial_gating_unit/{name}" for name in ("fc_0", "fc_2"))
MIXERS = {
    "tau_static": (*_TAU, *_STATIC),
    "tau_dynamic": (*_TAU, *_DYNAMIC),
    "tau": (*_TAU, *_STATIC, *_DYNAMIC),
    "gsta": ("gsta", "layer_scale_1_gsta"),
    "local": ("local", "layer_scale_1_local"),
    "global": ("global", "layer_scale_1_global"),
    "non_local": ("non_local", "layer_scale_1_non_local"),
}
"""Unit, which is also its only path -> submodules of the block that it runs."""

PATHS = tuple(MIXERS)


def mixed_slots(n_t: int) -> tuple[Slot, ...]:
    """The slots of a translator ``hid`` of `n_t` blocks."""
    units = tuple((name, (name,)) for name in MIXERS)
    modules = tuple(MIXERS.items())
    return tuple(Slot(_slot_name(i), units, modules) for i in range(n_t))


def _slot_name(index: int) -> str:
    return f"hid/enc_{index}/block"


class TemporalAttentions(nn.Module):
    """The gates of `paths`, times their factors, times the input.

    Of ``tau_static`` and ``tau_dynamic`` the gate is one of TAU's attentions, of
    ``tau`` it is their product.
    """

    paths: tuple[str, ...]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, u: jax.Array, mask: jax.Array | None) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        gates = {}
        if {"tau", "tau_static"} & set(self.paths):
            gates["tau_static"] = static_attention(u, self.dtype)
        if {"tau", "tau_dynamic"} & set(self.paths):
            gates["tau_dynamic"] = dynamic_attention(u, self.dtype)
        if "tau" in self.paths:
            gates["tau"] = gates["tau_dynamic"] * gates["tau_static"]
        return _sum(mask, {path: gates[path] for path in self.paths}) * u


class TAUMixer(nn.Module):
    """TAU's attention, or a half of it: 1x1, GELU, gates, 1x1, plus the input.

    Paths share all parameters that they have in common. The last convolution is linear,
    so that it runs once for all of them.
    """

    paths: tuple[str, ...]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        u = gelu(conv(d, d, 1, dtype=self.dtype, name="proj_1")(x))
        gate = TemporalAttentions(self.paths, self.dtype, name="spatial_gating_unit")
        project = conv(d, d, 1, dtype=self.dtype, name="proj_2")
        y = project(gate(u, mask))
        if mask is None and len(self.paths) == 1:
            return y + x
        # The bias is in y once, but counts as often as its paths do.
        bias = project.variables["params"]["bias"].astype(y.dtype)
        return y - bias + _sum(mask, dict.fromkeys(self.paths, x + bias))


class LocalMixer(nn.Module):
    """UniFormer's local MHRA on a map: 1x1, depthwise 5x5, 1x1, nothing between.

    Its position embedding, a depthwise 3x3 convolution, acts on what it mixes.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d = x.shape[-1]
        depthwise = {"groups": d, "kernel_init": fan_out_init(d), "dtype": self.dtype}
        pointwise = {"kernel_init": fan_out_init(), "dtype": self.dtype}
        x = x + conv(d, d, 3, name="pos_embed", **depthwise)(x)
        x = conv(d, d, 1, name="conv1", **pointwise)(x)
        x = conv(d, d, 5, name="attn", **depthwise)(x)
        return conv(d, d, 1, name="conv2", **pointwise)(x)


class GlobalMixer(nn.Module):
    """UniFormer's global MHRA on a map: self-attention of 8 heads over h * w positions.

    Its position embedding, a depthwise 3x3 convolution, acts on what it mixes.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]."""
        d, shape = x.shape[-1], x.shape
        x = x + conv(d, d, 3, groups=d, dtype=self.dtype, name="pos_embed")(x)
        spread = splits_rows(shape)
        y = SelfAttention(dtype=self.dtype, spread=spread, name="attn")(fold(x))
        return unfold(y, shape)


class LayerScale(nn.Module):
    """A learned factor a channel, `init` at birth."""

    init: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        return layer_scale(self, "scale", x, self.init)


class MixedBlock(nn.Module):
    """A block of the mixers of `paths`, whose results are added.

    Attributes:
      paths: names in `MIXERS`; a template has all of them.
      mlp_ratio: hidden width of the MLP over D.
      drop_path_rate: of both residual branches.
      scale: of both residual branches at birth.
      dtype: compute dtype.
    """

    paths: tuple[str, ...] = PATHS
    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    scale: float = 1e-2
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, mask: jax.Array | None = None
    ) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D]; `mask` [7] or [B, 7], see `slots`."""
        drop_path = DropPath(self.drop_path_rate)
        y = BatchNorm(dtype=self.dtype, name="norm1")(x, train=train)
        x = x + drop_path(self._mix(y, train, mask), train=train)
        y = BatchNorm(dtype=self.dtype, name="norm2")(x, train=train)
        y = MixMlp(self.mlp_ratio, self.dtype, name="mlp")(y)
        y = layer_scale(self, "layer_scale_2", y, self.scale)
        return x + drop_path(y, train=train)

    def _mix(self, x, train, mask):
        kw, found = {"dtype": self.dtype}, {}

        def scaled(name, y):
            return LayerScale(self.scale, name=f"layer_scale_1_{name}")(y)

        if "gsta" in self.paths:
            gsta = SpatialAttention(GatedAttention, True, name="gsta", **kw)
            found["gsta"] = scaled("gsta", gsta(x))
        if "local" in self.paths:
            found["local"] = scaled("local", LocalMixer(name="local", **kw)(x))
        if "global" in self.paths:
            found["global"] = scaled("global", GlobalMixer(name="global", **kw)(x))
        if "non_local" in self.paths:
            non_local = NonLocal(init_std=None, residual=False, name="non_local", **kw)
            found["non_local"] = scaled("non_local", non_local(x, train))
        y = _sum(mask, found)
        if tau := tuple(path for path in self.paths if path.startswith("tau")):
            y = y + scaled("tau", TAUMixer(tau, name="tau", **kw)(x, mask))
        return y


def _sum(mask: jax.Array | None, values: dict[str, jax.Array]) -> jax.Array | float:
    """Of results by path, each times its factor; 0 for none."""
    return sum(gated(y, mask, PATHS.index(path)) for path, y in values.items())


class MixedStage(nn.Module):
    """A `MixedBlock` and, where the width changes, a 1x1 reduction.

    Attributes: of the block; and ``features``, channels that come out.
    """

    paths: tuple[str, ...]
    features: int
    mlp_ratio: float
    drop_path_rate: float
    scale: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, features]."""
        fields = (self.paths, self.mlp_ratio, self.drop_path_rate, self.scale)
        x = MixedBlock(*fields, self.dtype, name="block")(x, train, mask)
        if x.shape[-1] == self.features:
            return x
        kw = {"dtype": self.dtype, "name": "reduction"}
        return conv(x.shape[-1], self.features, 1, **kw)(x)


class MixedNet(nn.Module):
    """A block for each of `paths`: T * C -> hid_t … -> T' * C.

    As `stjax.layers.translators.MidMetaNet`, whose names it has.

    Attributes:
      paths: the built mixers, by block.
      hid_t: channels between the first and the last block.
      mlp_ratio: of the blocks.
      drop_path_rates: of the first and the last block; linear in between.
      scale: of the blocks.
      remat: a name in `stjax.layers.remat.REMAT`.
      dtype: compute dtype.
    """

    paths: tuple[tuple[str, ...], ...]
    hid_t: int
    mlp_ratio: float
    drop_path_rates: tuple[float, float]
    scale: float
    remat: str = "none"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        out_features: int,
        *,
        train: bool,
        masks: Masks | None = None,
    ) -> jax.Array:
        """[B, h, w, D_in] -> [B, h, w, out_features]; `masks` by slot."""
        stage = rematerialised(MixedStage, self.remat, static_argnums=(2,))
        first, last = self.drop_path_rates
        count = len(self.paths)
        for i, paths in enumerate(self.paths):
            features = out_features if i == count - 1 else self.hid_t
            rate = first + (last - first) * i / (count - 1)
            fields = (paths, features, self.mlp_ratio, rate, self.scale, self.dtype)
            mask = (masks or {}).get(_slot_name(i))
            x = stage(*fields, name=f"enc_{i}")(x, train, mask)
        return x
