"""PredRNN (Wang et al., 2017) and PredRNNv2 (Wang et al., 2021)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from stjax.models.recurrent.layers import Readout, split
from stjax.models.recurrent.rollout import Carry
from stjax.models.recurrent.stack import Cell, Stack

Array = jax.Array


class STLSTMCell(Cell):
    """Spatio-temporal LSTM: a cell c in time, a memory m that climbs the layers."""

    @nn.compact
    def __call__(self, x: Array, h: Array, c: Array, m: Array) -> tuple[Array, ...]:
        """x [B,H,W,Cx], h c m [B,H,W,C] -> next h, c, m and what c and m gained."""
        i_x, f_x, g_x, i_xm, f_xm, g_xm, o_x = split(self._conv("conv_x", x, 7), 7)
        i_h, f_h, g_h, o_h = split(self._conv("conv_h", h, 4), 4)
        i_m, f_m, g_m = split(self._conv("conv_m", m, 3), 3)

        gain_c = nn.sigmoid(i_x + i_h) * jnp.tanh(g_x + g_h)
        c = nn.sigmoid(f_x + f_h + 1) * c + gain_c
        gain_m = nn.sigmoid(i_xm + i_m) * jnp.tanh(g_xm + g_m)
        m = nn.sigmoid(f_xm + f_m + 1) * m + gain_m

        both = jnp.concatenate([c, m], -1)
        o = nn.sigmoid(o_x + o_h + self._conv("conv_o", both, 1))
        h = o * jnp.tanh(self._mix("conv_last", both))
        return h, c, m, gain_c, gain_m


class PredRNN(Stack):
    """PredRNN of OpenSTL: [B,T_in,H,W,C] -> [B,frames,H,W,C]; see `Rollout`.

    The memory leaves the top layer and enters the lowest one at the next step.
    Defaults are the Moving MNIST configuration.
    """

    def setup(self) -> None:
        """One cell a layer; the readout learns the frame's channels from the call."""
        self._check_fields()
        self.cell_list = [
            STLSTMCell(n, self.filter_size, self.layer_norm, self.dtype)
            for n in self.num_hidden
        ]
        self.conv_last = Readout(dtype=self.dtype)

    def begin(self, x: Array, steps: int) -> Carry:
        """Hidden states, cell states and the memory, all zero."""
        hidden, cells = self._hidden_and_cells(x)
        return hidden, cells, self._zeros(x, self.num_hidden[0])

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """One step through all layers."""
        hidden, cells, memory = list(state[0]), list(state[1]), state[2]
        below, gains = x, []
        for n, cell in enumerate(self.cell_list):
            hidden[n], cells[n], memory, *gain = cell(
                below, hidden[n], cells[n], memory
            )
            below = hidden[n]
            gains.append(gain)
        y = self.conv_last(below, x.shape[-1])
        return (tuple(hidden), tuple(cells), memory), y, self.compare(gains)

    def compare(self, gains: list) -> dict:
        """What is to be known of the gains of cells and memory, a list a layer."""
        return {}


class PredRNNv2(PredRNN):
    """PredRNN with memory decoupling and reverse scheduled sampling.

    The gains of cell and memory are kept apart: in training the mean over steps,
    layers, batch and channels of the absolute cosine over space between
    adapter(gain_c) and adapter(gain_m), times `decouple_beta`, is sown as loss
    'decouple'. The shared 1x1 adapter has no effect on predictions. Published betas:
    0.1, KTH 0.01.
    """

    sampling: str = "reverse"
    decouple_beta: float = 0.1

    def setup(self) -> None:
        """PredRNN's layers and the adapter."""
        super().setup()
        self.adapter = Readout(dtype=self.dtype)

    def compare(self, gains: list) -> dict:
        """This step's mean absolute cosine; the compiler omits it when not sown."""
        return {"decouple": jnp.mean(jnp.stack([self._cosine(*g) for g in gains]))}

    def _cosine(self, gain_c: Array, gain_m: Array) -> Array:
        def unit(gain):
            y = self.adapter(gain, gain.shape[-1]).astype(jnp.float32)
            norm = jnp.sum(y * y, (1, 2), keepdims=True)
            return y / jnp.sqrt(jnp.maximum(norm, 1e-24))

        return jnp.mean(jnp.abs(jnp.sum(unit(gain_c) * unit(gain_m), (1, 2))))

    def finish(self, y: Array, extras: dict, train: bool) -> None:
        """Sows the decoupling loss."""
        if train:
            loss = self.decouple_beta * jnp.mean(extras["decouple"])
            self.sow("losses", "decouple", loss)
