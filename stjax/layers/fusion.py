"""Fusion units: how a layer mixes space and time (CVPR 2020, arXiv 2004.04981).

``S`` looks at each frame (1x1x1 and 1x3x3), ``ST`` at three frames first (3x1x1, then
1x3x3), ``S+ST`` adds both before the 1x3x3, which the units share: it sits where a
bottleneck reduces its channels. What runs is chosen by slots, see
`stjax.layers.slots`. Paths are ``s`` (1x1x1) and ``t`` (3x1x1).

In dense layers, transitions and MobileNets every path has a BN of its own. In residual
blocks two convolutions without bias are added and then normalised: there ``S+ST`` is
the same function class as ``ST`` (`stjax.search.fuse`).
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError, unknown
from stjax.layers.common import BatchNorm, Dtype, conv
from stjax.layers.slots import Masks, Slot, gated

S_T = ("s", "t")
UNITS = (("S", ("s",)), ("ST", ("t",)), ("S+ST", S_T))
GENERAL = (
    *UNITS,
    ("T", ("time",)),
    ("S+T", ("s", "time")),
    ("T+ST", ("t", "time")),
    ("S+T+ST", ("s", "t", "time")),
)
"""The paper's whole set, for dense layers; its experiments use `UNITS`."""

_WINDOWS = {"s": (1, 1, 1), "t": (3, 1, 1)}
he_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""N(0, 2 / fan_in), torchvision's for DenseNets."""


def conv3d(
    x: jax.Array,
    features: int,
    window: tuple[int, int, int],
    name: str,
    *,
    strides: Sequence[int] = (1, 1, 1),
    groups: int = 1,
    kernel_init=he_init,
    dtype: Dtype = jnp.float32,
) -> jax.Array:
    """[B, T, H, W, C] -> [B, T', H', W', features] without bias, zeros around."""
    return conv(
        x.shape[-1],
        features,
        window,
        ndim=3,
        strides=strides,
        groups=groups,
        use_bias=False,
        kernel_init=kernel_init,
        dtype=dtype,
        name=name,
    )(x)


class PreActivation(nn.Module):
    """BN, ReLU and a convolution.

    Attributes:
      features: channels of the result.
      window: of the convolution.
      number: at the end of the names, ``norm`` and ``conv`` and this.
      dtype: compute dtype.
    """

    features: int
    window: tuple[int, int, int]
    number: str = ""
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, features]."""
        x = BatchNorm(dtype=self.dtype, name=f"norm{self.number}")(x, train=train)
        name = f"conv{self.number}"
        return conv3d(nn.relu(x), self.features, self.window, name, dtype=self.dtype)


class TimeBranch(nn.Module):
    """The unit T of a dense layer: 1x1x1, then 3x1x1, nothing in space.

    The paper's set has it, no experiment does and nobody has published its layers;
    this reading adds 22 % of the parameters of S+ST (the supplement: a quarter).

    Attributes:
      inner: channels between the two.
      features: channels of the result.
      dtype: compute dtype.
    """

    inner: int
    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, features]."""
        x = PreActivation(self.inner, (1, 1, 1), dtype=self.dtype, name="reduce")(
            x, train
        )
        mix = PreActivation(self.features, (3, 1, 1), dtype=self.dtype, name="mix")
        return mix(x, train)


class DenseLayer(nn.Module):
    """New channels for a dense block: reduced by the paths of a unit, then 1x3x3.

    Names: ``bottleneck`` (path s), ``temporal`` (t), ``spatial``, ``time`` (time).

    Attributes:
      paths: that are built.
      growth: channels of the result.
      inner: channels between the convolutions.
      dtype: compute dtype.
    """

    paths: tuple[str, ...]
    growth: int
    inner: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, mask: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H, W, growth]; `mask` [P] or [B, P]."""
        names = {"s": "bottleneck", "t": "temporal"}
        parts = []
        for i, path in enumerate(S_T):
            if path in self.paths:
                reduce = PreActivation(
                    self.inner, _WINDOWS[path], "1", self.dtype, name=names[path]
                )
                parts.append(gated(reduce(x, train), mask, i))
        results = []
        if parts:
            spatial = PreActivation(
                self.growth, (1, 3, 3), "2", self.dtype, name="spatial"
            )
            y = spatial(sum(parts), train)
            if "time" in self.paths:
                # Without s and t there would be no 1x3x3 either.
                both = None if mask is None else mask[..., :2].max(-1, keepdims=True)
                y = gated(y, both, 0)
            results.append(y)
        if "time" in self.paths:
            time = TimeBranch(self.inner, self.growth, self.dtype, name="time")
            results.append(gated(time(x, train), mask, 2))
        return sum(results)


class Transition(nn.Module):
    """Between dense blocks: fewer channels by the paths of a unit, then a mean-pool.

    Names: ``original`` (path s), ``temporal`` (t).

    Attributes:
      paths: that are built.
      features: channels of the result.
      stride_t: frames that the pool joins; 2x2 pixels always.
      dtype: compute dtype.
    """

    paths: tuple[str, ...]
    features: int
    stride_t: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, mask: jax.Array | None = None
    ) -> jax.Array:
        """[B, T, H, W, C] -> [B, T/stride_t, H/2, W/2, features]."""
        names = {"s": "original", "t": "temporal"}
        parts = []
        for i, path in enumerate(S_T):
            if path in self.paths:
                reduce = PreActivation(
                    self.features, _WINDOWS[path], dtype=self.dtype, name=names[path]
                )
                parts.append(gated(reduce(x, train), mask, i))
        window = (self.stride_t, 2, 2)
        return nn.avg_pool(sum(parts), window, strides=window)


def dense_slot(name: str, general: bool) -> Slot:
    """The slot of a `DenseLayer`; `general`: with the units that have T."""
    if not general:
        modules = (("s", ("bottleneck",)), ("t", ("temporal",)))
        return Slot(name, UNITS, modules)
    modules = (
        ("s", ("bottleneck", "spatial")),
        ("t", ("temporal", "spatial")),
        ("time", ("time",)),
    )
    return Slot(name, GENERAL, modules)


def transition_slot(name: str) -> Slot:
    """The slot of a `Transition`."""
    return Slot(name, UNITS, (("s", ("original",)), ("t", ("temporal",))))


def check_masks(slots: Sequence[Slot], masks: Masks | None) -> Mapping:
    """`masks` with a mask for each slot that exists; none of them is a mask too.

    Raises:
      UserError: a slot that there is not, or another number of paths.
    """
    paths = {slot.name: slot.paths for slot in slots}
    for name, mask in (masks or {}).items():
        if name not in paths:
            raise unknown("slot in masks", name, paths)
        if jnp.shape(mask)[-1:] != (len(paths[name]),):
            raise UserError(
                f"the mask of {name} has the shape {jnp.shape(mask)}; expected [P] or"
                f" [B, P] for its {len(paths[name])} paths {', '.join(paths[name])}"
            )
    return masks or {}
