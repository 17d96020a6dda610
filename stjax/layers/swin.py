"""The Swin Transformer block (Liu et al., ICCV 2021, 2103.14030) as a translator."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UserError
from stjax.layers.common import DropPath, Dtype, layer_norm, trunc_normal_init
from stjax.layers.mlp import Mlp
from stjax.layers.self_attention import self_attention

HEADS = 8


def window_size(h: int, w: int) -> int:
    """OpenSTL's side of a window: 7 if it divides h, else h // 16 within 4 and 8."""
    size = 7 if h % 7 == 0 else min(8, max(4, h // 16))
    return min(size, h, w)


def relative_position_index(window: int) -> np.ndarray:
    """[window^2, window^2]: row of the bias table for each pair of positions."""
    y, x = np.divmod(np.arange(window**2), window)
    dy = y[:, None] - y[None] + window - 1
    dx = x[:, None] - x[None] + window - 1
    return dy * (2 * window - 1) + dx


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias for each relative position."""

    window: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, window^2, D] -> the same."""
        rows = (2 * self.window - 1) ** 2
        name = "relative_position_bias_table"
        if self.has_variable("params", name):
            got = self.get_variable("params", name).shape[0]
            if got != rows:
                raise UserError(
                    f"translator 'swin' chooses its window by the frame size: these "
                    f"weights have a window of {(int(got**0.5) + 1) // 2}, the frames "
                    f"need {self.window}; use frames of the size of the training"
                )
        table = self.param(name, trunc_normal_init, (rows, HEADS))
        bias = table[relative_position_index(self.window)].transpose(2, 0, 1)
        return self_attention(x, HEADS, dtype=self.dtype, bias=bias)


class SwinBlock(nn.Module):
    """Pre-norm windowed attention and an MLP; odd blocks shift by half a window.

    As in OpenSTL's ``SwinSubBlock``, shifted windows are not masked: the map is a
    torus to them (the paper masks). LayerNorm epsilon 1e-5.
    """

    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    index: int = 0
    dtype: Dtype = jnp.float32

    cycle = 2  # every second block is like the first

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D].

        Raises:
          UserError: if the window does not divide h and w.
        """
        b, h, w, d = x.shape
        size = window_size(h, w)
        if h % size or w % size:
            raise UserError(
                f"translator 'swin' cannot cut a latent map of {h}x{w} into windows "
                f"of {size}x{size}; use frames whose latent sides {size} divides"
            )
        shift = size // 2 if self.index % 2 and min(h, w) > size else 0
        drop_path = DropPath(self.drop_path_rate)
        y = layer_norm(1e-5, self.dtype, "norm1")(x)
        y = jnp.roll(y, (-shift, -shift), (1, 2))
        y = y.reshape(b, h // size, size, w // size, size, d).swapaxes(2, 3)
        y = WindowAttention(size, self.dtype, name="attn")(y.reshape(-1, size**2, d))
        y = y.reshape(b, h // size, w // size, size, size, d).swapaxes(2, 3)
        y = jnp.roll(y.reshape(b, h, w, d), (shift, shift), (1, 2))
        x = x + drop_path(y, train=train)
        y = layer_norm(1e-5, self.dtype, "norm2")(x)
        y = Mlp(int(d * self.mlp_ratio), self.dtype, name="mlp")(y)
        return x + drop_path(y, train=train)
