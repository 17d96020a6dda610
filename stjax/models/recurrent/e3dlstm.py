"""E3D-LSTM (Wang et al., 2019): 3-D convolutions and recall of all past cells."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from stjax.errors import unknown
from stjax.layers.common import torch_kernel_init
from stjax.models.recurrent.layers import MapNorm, split
from stjax.models.recurrent.rollout import Carry
from stjax.models.recurrent.stack import Stack
from stjax.ops.conv import conv_nd

Array = jax.Array
WINDOW = 2  # frames that a state holds
ATTENTIONS = ("reshaped", "channels")


class Kernel(nn.Module):
    """A kernel by itself, for the original's nesting of names."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> Array:
        """The kernel [depth,height,width,in,out]."""
        return self.param("kernel", torch_kernel_init, self.shape)


class WindowConv(nn.Module):
    """3-D convolution over the whole window of 2, spread back to the input's shape.

    x [B,2,H,W,C] -> [B,2,H,W,features], both slices equal: the depth shrinks to 1 and,
    with `stride` 2, the sides by half; nearest-neighbour up-sampling undoes it. Depth
    being convolved away, this is a 2-D convolution with depth in the channels.
    """

    features: int
    kernel: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,2,H,W,C] -> [B,2,H,W,features]."""
        b, d, h, w, c = x.shape
        k = self.kernel
        depth = d if k > 1 else 1
        kernel = Kernel((depth, k, k, c, self.features), name="conv3d")()
        kernel = kernel.astype(self.dtype)
        x = x.astype(self.dtype)
        if k == 1:
            return x @ kernel[0, 0, 0]
        y = conv_nd(
            x.transpose(0, 2, 3, 1, 4).reshape(b, h, w, d * c),
            kernel.transpose(1, 2, 0, 3, 4).reshape(k, k, d * c, self.features),
            window_strides=(self.stride, self.stride),
            padding=((k // 2, k // 2), (k // 2, k // 2)),
        )
        if self.stride > 1:
            y = y[:, jnp.arange(h) * y.shape[1] // h]
            y = y[:, :, jnp.arange(w) * y.shape[2] // w]
        return jnp.broadcast_to(y[:, None], (b, d, h, w, self.features))


class EideticCell(nn.Module):
    """LSTM whose cell recalls all of its past by attention."""

    features: int
    filter_size: int
    conv_stride: int
    layer_norm: bool
    update_memory: bool
    attention: str
    dtype: jnp.dtype

    def _conv(self, name: str, x: Array, gates: int) -> Array:
        y = WindowConv(
            gates * self.features,
            self.filter_size,
            self.conv_stride,
            self.dtype,
            name=f"{name}_0",
        )(x)
        return MapNorm(name=f"{name}_1")(y) if self.layer_norm else y

    def _memory_gates(self, m: Array) -> Array:
        if self.update_memory or self.is_initializing():
            return self._conv("conv_gm", m, 4)
        # A memory of zeros needs no convolution; its norm adds the bias still.
        gates = jnp.zeros((*m.shape[:-1], 4 * self.features), self.dtype)
        return MapNorm(name="conv_gm_1")(gates) if self.layer_norm else gates

    @nn.compact
    def __call__(
        self, x: Array, h: Array, c: Array, m: Array, past: Array, t: Array
    ) -> tuple[Array, Array, Array]:
        """x h c m [B,2,H,W,C], past [B,L,2HW,C] with t+1 entries -> next h, c, m."""
        i_x, g_x, r_x, o_x, i_xm, g_xm, f_xm = split(self._conv("conv_x", x, 7), 7)
        i_h, g_h, r_h, o_h = split(self._conv("conv_h", h, 4), 4)
        recalled = recall(nn.sigmoid(r_x + r_h), past, t, self.attention)
        gain = nn.sigmoid(i_x + i_h) * jnp.tanh(g_x + g_h)
        c = MapNorm(name="_norm_c_t")(c + recalled) + gain

        i_m, f_m, g_m, m_m = split(self._memory_gates(m), 4)
        f = nn.sigmoid(f_xm + f_m + 1)
        m = f * jnp.tanh(m_m) + nn.sigmoid(i_xm + i_m) * jnp.tanh(g_xm + g_m)

        o = o_x + o_h + self._conv("conv_new_cell", c, 1)
        o = jnp.tanh(o + self._conv("conv_new_gm", m, 1))
        both = jnp.concatenate([c.astype(self.dtype), m.astype(self.dtype)], -1)
        mix = WindowConv(self.features, 1, dtype=self.dtype, name="conv_last")(both)
        return nn.sigmoid(o) * jnp.tanh(mix), c, m.astype(jnp.float32)


def rows(state: Array, attention: str) -> Array:
    """[B,2,H,W,C] -> the rows [B,2HW,C] that attention compares.

    'channels': a row is the channels at one place. 'reshaped': the state in torch's
    order (C,2,H,W) cut into pieces of length C, as OpenSTL's reshape does.
    """
    if attention == "reshaped":
        state = jnp.moveaxis(state, -1, 1)
    return state.reshape(state.shape[0], -1, _channels(state, attention))


def _channels(state: Array, attention: str) -> int:
    return state.shape[1] if attention == "reshaped" else state.shape[-1]


def recall(query: Array, past: Array, t: Array, attention: str) -> Array:
    """Attention of query [B,2,H,W,C] over the first t+1 of past [B,L,2HW,C], unscaled.

    The softmax runs over all rows of all past steps; float32.
    """
    b, d, h, w, c = query.shape
    q = rows(query, attention).astype(jnp.float32)
    past = past.astype(jnp.float32)
    logits = jnp.einsum("bqc,blkc->bqlk", q, past)
    filled = jnp.arange(past.shape[1]) <= t
    logits = jnp.where(filled[:, None], logits, -jnp.inf)
    weights = nn.softmax(logits, axis=(2, 3))
    found = jnp.einsum("bqlk,blkc->bqc", weights, past)
    if attention == "reshaped":
        return jnp.moveaxis(found.reshape(b, c, d, h, w), 1, -1)
    return found.reshape(query.shape)


class WindowReadout(nn.Module):
    """Convolution (2,1,1) that reduces the window to one frame, without bias."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, features: int) -> Array:
        """[B,2,H,W,C] -> [B,H,W,features]."""
        shape = (WINDOW, 1, 1, x.shape[-1], features)
        kernel = self.param("kernel", torch_kernel_init, shape).astype(self.dtype)
        x = x.astype(self.dtype)
        return jnp.einsum("bdhwc,dcf->bhwf", x, kernel[:, 0, 0])


class E3DLSTM(Stack):
    """E3D-LSTM of OpenSTL: [B,T_in,H,W,C] -> [B,frames,H,W,C]; see `Rollout`.

    Each step sees the last two frames. Trained with MSE + MAE (loss 'mse_mae').
    Where OpenSTL, which published the tables, departs from the paper, OpenSTL's way
    is the default: its memory M never leaves zero (`update_memory` lets it flow) and
    its attention compares pieces of a reshaped tensor (`attention`: 'reshaped' or
    'channels'). The cells' norm is affine over whole maps: parameters hold for one
    image size. Memory in training grows with the square of the steps, since each one
    recalls all before. Defaults are the Moving MNIST configuration; KTH is patch_size
    8, conv_stride 2.
    """

    conv_stride: int = 1
    update_memory: bool = False
    attention: str = "reshaped"

    keeps_all = True  # of its past: see `stjax.rollout`

    def setup(self) -> None:
        """One cell a layer and the readout."""
        self._check_fields()
        if self.attention not in ATTENTIONS:
            raise unknown("attention of E3D-LSTM", self.attention, ATTENTIONS)
        self.cell_list = [
            EideticCell(
                n,
                self.filter_size,
                self.conv_stride,
                self.layer_norm,
                self.update_memory,
                self.attention,
                self.dtype,
            )
            for n in self.num_hidden
        ]
        self.conv_last = WindowReadout(self.dtype)

    def begin(self, x: Array, steps: int) -> Carry:
        """No frame seen, hidden, cells, room for their past, memory: all zero."""
        (batch, height, width, _), n = x.shape, self.num_hidden[0]
        cell = jnp.zeros((batch, WINDOW, height, width, n), jnp.float32)
        past = jnp.zeros((batch, steps, WINDOW * height * width, n), self.dtype)
        layers = len(self.num_hidden)
        hidden = (cell.astype(self.dtype),) * layers
        return x, hidden, (cell,) * layers, (past,) * layers, cell

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """One step through all layers."""
        last, *groups, memory = state
        hidden, cells, past = map(list, groups)
        below = jnp.stack([last, x], 1)
        for n, cell in enumerate(self.cell_list):
            entry = rows(cells[n], self.attention).astype(self.dtype)
            past[n] = lax.dynamic_update_index_in_dim(past[n], entry, t, 1)
            hidden[n], cells[n], new = cell(
                below, hidden[n], cells[n], memory, past[n], t
            )
            memory = new if self.update_memory else memory
            below = hidden[n]
        y = self.conv_last(below, x.shape[-1])
        return (x, tuple(hidden), tuple(cells), tuple(past), memory), y, {}
