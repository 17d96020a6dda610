"""SwinLSTM-D: cells on two scales, down and up again."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stjax.errors import UserError
from stjax.layers.common import layer_norm, torch_kernel_init
from stjax.models.recurrent.rollout import Carry
from stjax.models.recurrent.swinlstm import (
    PatchEmbed,
    PatchInflate,
    SwinCell,
    SwinRollout,
)

Array = jax.Array


def _linear(features: int, dtype: jnp.dtype, name: str) -> nn.Dense:
    return nn.Dense(
        features,
        use_bias=False,
        dtype=dtype,
        kernel_init=torch_kernel_init,
        name=name,
    )


class PatchMerge(nn.Module):
    """Four neighbours become one place of twice the width."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,D] -> [B,H/2,W/2,2D]."""
        b, h, w, d = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, d)
        # Order of the four: (0,0), (1,0), (0,1), (1,1), rows first.
        x = x.transpose(0, 1, 3, 4, 2, 5).reshape(b, h // 2, w // 2, 4 * d)
        return _linear(2 * d, self.dtype, "reduction")(
            layer_norm(1e-5, self.dtype, "norm")(x)
        )


class PatchExpand(nn.Module):
    """One place becomes four of half the width."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,D] -> [B,2H,2W,D/2]."""
        b, h, w, d = x.shape
        x = _linear(2 * d, self.dtype, "expand")(x).reshape(b, h, w, 2, 2, d // 2)
        x = x.swapaxes(2, 3).reshape(b, 2 * h, 2 * w, d // 2)
        return layer_norm(1e-5, self.dtype, "norm")(x)


class Path(nn.Module):
    """The way down (`up` false) or up: a cell and a change of scale per stage."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int
    drop_path_rate: float
    up: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Array, states: Carry, train: bool, image_channels: int = 0
    ) -> tuple[Carry, Array]:
        """Frame, or map with `up`, and states -> next states, map or frame."""
        d = self.dtype
        embed = PatchEmbed(self.embed_dim, 2, d, name="patch_embed")
        if not self.up:
            x = embed(x)
        elif self.is_initializing():  # the original has it here too, unused
            b, h, w, _ = x.shape
            side = 2 ** (len(self.depths) + 1)
            embed(jnp.zeros((b, h * side, w * side, image_channels)))
        rates = np.linspace(0, self.drop_path_rate, sum(self.depths)).tolist()
        cuts = np.cumsum([0, *self.depths]).tolist()
        states = list(states)
        stages = range(len(self.depths))
        for n, stage in enumerate(reversed(stages) if self.up else stages):
            rate = tuple(rates[cuts[stage] : cuts[stage + 1]])
            cell = SwinCell(
                self.num_heads[stage],
                self.window_size,
                rate[::-1] if self.up else rate,
                d,
                name=f"layers_{n}",
            )
            x, states[n] = cell(x, states[n], train)
            if self.up:
                x = PatchExpand(d, name=f"upsample_{n}")(x)
            else:
                x = PatchMerge(d, name=f"downsample_{n}")(x)
        if self.up:
            x = PatchInflate(d, name="Unembed")(x, image_channels)
        return tuple(states), x


class SwinLSTM(SwinRollout):
    """SwinLSTM-D of OpenSTL: [B,T_in,H,W,C] -> [B,frames,H,W,C]; see `Rollout`.

    Patches of 2 x 2, then two scales down and two up with a cell each. Defaults are
    the Moving MNIST configuration. As in the original the entries of
    `depths_upsample` belong to the scales from fine to coarse, like the others.
    """

    embed_dim: int = 128
    depths_downsample: tuple[int, ...] = (2, 6)
    depths_upsample: tuple[int, ...] = (6, 2)
    num_heads: tuple[int, ...] = (4, 8)
    window_size: int = 4
    drop_path_rate: float = 0.1

    @property
    def stride(self) -> int:
        """What the sides of a frame have to be divisible by."""
        return 2 ** (len(self.num_heads) + 1)

    def setup(self) -> None:
        """The way down and the way up."""
        lengths = {
            len(self.depths_downsample),
            len(self.depths_upsample),
            len(self.num_heads),
        }
        if len(lengths) > 1:
            raise UserError(
                "SwinLSTM: depths_downsample, depths_upsample and num_heads have "
                f"different lengths {sorted(lengths)}; give each one entry a scale"
            )
        rest = self.num_heads, self.window_size, self.drop_path_rate
        dim = self.embed_dim
        self.Downsample = Path(dim, self.depths_downsample, *rest, False, self.dtype)
        self.Upsample = Path(dim, self.depths_upsample, *rest, True, self.dtype)

    def begin(self, x: Array, steps: int) -> Carry:
        """The cells' states on the way down and up, zero."""
        scales = [2**n for n in range(len(self.num_heads) + 1)]
        down = [self._zero_state(x, 2 * s, self.embed_dim * s) for s in scales[:-1]]
        up = [self._zero_state(x, 2 * s, self.embed_dim * s) for s in scales[:0:-1]]
        return tuple(down), tuple(up)

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """One step down and up."""
        down, up = state
        down, y = self.Downsample(x, down, train)
        up, y = self.Upsample(y, up, train, x.shape[-1])
        return (down, up), y, {}
