"""SwinLSTM (Tang et al., ICCV 2023, 2308.09891): a cell of Swin blocks."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stjax.errors import UserError
from stjax.layers.common import (
    DropPath,
    conv,
    layer_norm,
    torch_kernel_init,
    trunc_normal_init,
)
from stjax.layers.mlp import Mlp
from stjax.layers.self_attention import self_attention
from stjax.layers.swin import relative_position_index
from stjax.models.recurrent.layers import ConvTranspose
from stjax.models.recurrent.rollout import Carry, Rollout

Array = jax.Array


def shift_mask(height: int, width: int, window: int, shift: int) -> np.ndarray:
    """[windows, window^2, window^2]: -100 between what a cyclic shift put together."""

    def region(n):
        return np.repeat([0, 1, 2], [n - window, window - shift, shift])

    zone = 3 * region(height)[:, None] + region(width)
    zone = zone.reshape(height // window, window, width // window, window)
    zone = zone.swapaxes(1, 2).reshape(-1, window**2)
    return np.where(zone[:, :, None] == zone[:, None], 0.0, -100.0).astype(np.float32)


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias for each relative position."""

    heads: int
    window: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, mask: np.ndarray | None) -> Array:
        """[B*windows, window^2, D], mask [windows, window^2, window^2] -> as x."""
        shape = (2 * self.window - 1) ** 2, self.heads
        table = self.param("relative_position_bias_table", trunc_normal_init, shape)
        bias = table[relative_position_index(self.window)].transpose(2, 0, 1)[None]
        if mask is not None:
            batch = x.shape[0] // mask.shape[0]
            bias = jnp.tile(bias + mask[:, None], (batch, 1, 1, 1))
        return self_attention(x, self.heads, dtype=self.dtype, bias=bias)


class SwinBlock(nn.Module):
    """A Swin block that may read a second map; odd ones shift by half a window.

    The second map goes through the same norm; both together are reduced to one width
    by `red`. Shifted windows are masked, as in the paper. A map that is no larger
    than the window is one window, unshifted.
    """

    heads: int
    window: int
    shifted: bool
    drop_path_rate: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, other: Array | None, train: bool) -> Array:
        """x and other [B,H,W,D] -> [B,H,W,D]."""
        _, h, w, d = x.shape
        drop_path = DropPath(self.drop_path_rate)
        norm = layer_norm(1e-5, self.dtype, "norm1")
        red = nn.Dense(d, dtype=self.dtype, kernel_init=torch_kernel_init, name="red")
        y = norm(x)
        if other is not None:
            y = red(jnp.concatenate([y, norm(other)], -1))
        elif self.is_initializing():  # the original has it in every block
            red(jnp.concatenate([y, y], -1))
        y = self._attend(y, h, w, d)
        x = x + drop_path(y, train=train)
        y = layer_norm(1e-5, self.dtype, "norm2")(x)
        return x + drop_path(Mlp(4 * d, self.dtype, name="mlp")(y), train=train)

    def _attend(self, y: Array, h: int, w: int, d: int) -> Array:
        size = min(self.window, h, w)
        if h % size or w % size:
            raise UserError(
                f"SwinLSTM: a map of {h} x {w} cannot be cut into windows of {size} x "
                f"{size}; use frames whose reduced sides window_size divides"
            )
        shift = size // 2 if self.shifted and min(h, w) > size else 0
        mask = shift_mask(h, w, size, shift) if shift else None
        y = jnp.roll(y, (-shift, -shift), (1, 2))
        y = y.reshape(-1, h // size, size, w // size, size, d).swapaxes(2, 3)
        attention = WindowAttention(self.heads, size, self.dtype, name="attn")
        y = attention(y.reshape(-1, size**2, d), mask)
        y = y.reshape(-1, h // size, w // size, size, size, d).swapaxes(2, 3)
        return jnp.roll(y.reshape(-1, h, w, d), (shift, shift), (1, 2))


class SwinCell(nn.Module):
    """LSTM with one gate, made by a chain of Swin blocks from the input and h."""

    heads: int
    window: int
    drop_path_rates: tuple[float, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, state: Carry, train: bool) -> tuple[Array, Carry]:
        """x [B,H,W,D], state (h, c) -> h, next state."""
        h, c = state
        out, other = x, h
        for n, rate in enumerate(self.drop_path_rates):
            block = SwinBlock(
                self.heads, self.window, n % 2 == 1, rate, self.dtype, name=f"STBs_{n}"
            )
            out = block(out, None if n % 2 else other, train)
            other = x
        gate = nn.sigmoid(out)
        c = gate * (c + jnp.tanh(out))
        h = (gate * jnp.tanh(c)).astype(self.dtype)
        return h, (h, c)


class PatchEmbed(nn.Module):
    """Patches to vectors: a strided convolution and a LayerNorm."""

    features: int
    patch_size: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,C] -> [B,H/p,W/p,features]."""
        p, n = self.patch_size, self.features
        kw = {"strides": p, "padding": 0, "dtype": self.dtype, "name": "proj"}
        x = conv(x.shape[-1], n, p, **kw)(x)
        return layer_norm(1e-5, self.dtype, "norm")(x)


class PatchInflate(nn.Module):
    """The way back: a transposed convolution of stride 2 and a sigmoid."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, channels: int) -> Array:
        """[B,H,W,D] -> [B,2H,2W,channels] in (0, 1)."""
        y = ConvTranspose(channels, 2, self.dtype, name="Conv")(x)
        return nn.sigmoid(y.astype(jnp.float32))


class SwinRollout(Rollout):
    """What the two SwinLSTMs share: closed loop after the input, also in training."""

    @property
    def stride(self) -> int:
        """What the sides of a frame have to be divisible by."""
        return 2

    def tokens(self, step: Array | int, batch: int, t_in: int, t_out: int) -> Array:
        """No true frame after the last input."""
        return jnp.zeros((batch, t_out - 1), bool)

    def _zero_state(self, x: Array, scale: int, width: int) -> Carry:
        shape = x.shape[0], x.shape[1] // scale, x.shape[2] // scale, width
        zeros = jnp.zeros(shape, jnp.float32)
        return zeros.astype(self.dtype), zeros


class Converter(nn.Module):
    """Embedding, one cell, inflation: the whole of SwinLSTM-B."""

    embed_dim: int
    depths: int
    num_heads: int
    window_size: int
    drop_path_rate: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, state: Carry, train: bool) -> tuple[Carry, Array]:
        """Frame [B,H,W,C], (h, c) -> next (h, c), frame."""
        rates = (self.drop_path_rate,) * self.depths
        d = self.dtype
        y = PatchEmbed(self.embed_dim, 2, d, name="patch_embed")(x)
        cell = SwinCell(self.num_heads, self.window_size, rates, d, name="layer")
        y, state = cell(y, state, train)
        return state, PatchInflate(d, name="patch_inflated")(y, x.shape[-1])


class SwinLSTMB(SwinRollout):
    """SwinLSTM-B of OpenSTL: [B,T_in,H,W,C] -> [B,frames,H,W,C]; see `Rollout`.

    One cell on patches of 2 x 2. Defaults are the Human3.6M configuration.
    """

    embed_dim: int = 128
    depths: int = 12
    num_heads: int = 4
    window_size: int = 4
    drop_path_rate: float = 0.1

    def setup(self) -> None:
        """All parameters are in `ST`, as in the original."""
        self.ST = Converter(
            self.embed_dim,
            self.depths,
            self.num_heads,
            self.window_size,
            self.drop_path_rate,
            self.dtype,
        )

    def begin(self, x: Array, steps: int) -> Carry:
        """The cell's state, zero."""
        return self._zero_state(x, 2, self.embed_dim)

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """One step."""
        return *self.ST(x, state, train), {}
