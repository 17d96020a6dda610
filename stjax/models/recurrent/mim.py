"""MIM (Wang et al., 2019): memory in memory, for what is not stationary."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from stjax.models.recurrent.layers import Readout, split
from stjax.models.recurrent.predrnn import STLSTMCell
from stjax.models.recurrent.rollout import Carry
from stjax.models.recurrent.stack import Cell, Stack

Array = jax.Array


class PeepholeCell(Cell):
    """LSTM with element-wise peepholes; the base of MIM-N and of the MIM block.

    The peephole weights have torch's order (channels, H, W), start at zero, and
    hold for one image size only.
    """

    def _peephole_lstm(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """x, h, c [B,H,W,C] -> output, next c."""
        _, height, width, channels = c.shape
        zeros = nn.initializers.zeros
        ct = self.param("ct_weight", zeros, (2 * channels, height, width))
        oc = self.param("oc_weight", zeros, (channels, height, width))
        to_i, to_f = split(jnp.moveaxis(ct, 0, -1), 2)
        to_o = jnp.moveaxis(oc, 0, -1)

        gates = self._conv("conv_h_concat", h, 4) + self._conv("conv_x_concat", x, 4)
        i, g, f, o = split(gates, 4)
        i = nn.sigmoid(i + c * to_i)
        f = nn.sigmoid(f + c * to_f + 1)
        c = f * c + i * jnp.tanh(g)
        return nn.sigmoid(o + c * to_o) * jnp.tanh(c), c


class MIMN(PeepholeCell):
    """The non-stationary module: an LSTM on differences of hidden states."""

    @nn.compact
    def __call__(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """x, h, c [B,H,W,C] -> next h, c."""
        self._unused(h, mix="conv_last")
        return self._peephole_lstm(x, h, c)


class MIMBlock(PeepholeCell):
    """ST-LSTM whose forget gate is a recurrent network: the stationary module.

    `n`, its inner cell state, carries no gradient through time, as in the original.
    """

    @nn.compact
    def __call__(
        self, x: Array, difference: Array, h: Array, c: Array, m: Array, n: Array
    ) -> tuple[Array, Array, Array, Array]:
        """All [B,H,W,C] -> next h, c, m, n."""
        i_s, g_s, f_s, o_s = split(self._conv("conv_s_cc", m, 4), 4)
        i_t, g_t, o_t = split(self._conv("conv_t_cc", h, 3), 3)
        i_x, g_x, f_x, o_x = split(self._conv("conv_x_cc", x, 4), 4)

        gain_m = nn.sigmoid(i_x + i_s) * jnp.tanh(g_x + g_s)
        m = nn.sigmoid(f_x + f_s + 1) * m + gain_m
        kept, n = self._peephole_lstm(difference, c, lax.stop_gradient(n))
        c = kept + nn.sigmoid(i_x + i_t) * jnp.tanh(g_x + g_t)
        o = nn.sigmoid(o_x + o_t + o_s)
        return o * jnp.tanh(self._mix("conv_last", c, m)), c, m, n


class MIM(Stack):
    """MIM of OpenSTL: [B,T_in,H,W,C] -> [B,frames,H,W,C]; see `Rollout`.

    The first layer is an ST-LSTM. Each further one is a MIM block that also sees the
    differences of hidden states through a MIM-N cell, from the second step on.

    OpenSTL never resets the blocks' inner state between batches, so that its
    predictions depend on the batch before. Here each clip starts at zero, as with a
    fresh model there. Defaults are the Moving MNIST configuration.
    """

    def setup(self) -> None:
        """One cell a layer, one MIM-N between neighbours, the readout."""
        self._check_fields()
        first, *rest = self.num_hidden
        options = self.filter_size, self.layer_norm, self.dtype
        self.stlstm_layer = [
            STLSTMCell(first, *options),
            *(MIMBlock(n, *options) for n in rest),
        ]
        self.stlstm_layer_diff = [MIMN(n, *options) for n in rest]
        self.conv_last = Readout(dtype=self.dtype)

    def begin(self, x: Array, steps: int) -> Carry:
        """Hidden and cell states, memory, states of MIM-N and blocks: all zero."""
        hidden, cells = self._hidden_and_cells(x)
        memory = self._zeros(x, self.num_hidden[0])
        return hidden, cells, memory, cells[1:], cells[1:], cells[1:]

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """One step through all layers."""
        hidden, cells, memory, *inner = state
        hidden, cells = list(hidden), list(cells)
        diff_h, diff_c, blocks = map(list, inner)
        before = hidden[0]
        hidden[0], cells[0], memory, *_ = self.stlstm_layer[0](
            x, hidden[0], cells[0], memory
        )
        change = hidden[0] - before
        pairs = zip(self.stlstm_layer_diff, self.stlstm_layer[1:], strict=True)
        for n, (differ, block) in enumerate(pairs):
            h, c = differ(change, diff_h[n], diff_c[n])
            # There is no difference at the first step: MIM-N starts at the second.
            diff_h[n] = jnp.where(t > 0, h, 0.0)
            diff_c[n] = jnp.where(t > 0, c, 0.0)
            change = diff_h[n]
            hidden[n + 1], cells[n + 1], memory, blocks[n] = block(
                hidden[n], change, hidden[n + 1], cells[n + 1], memory, blocks[n]
            )
        y = self.conv_last(hidden[-1], x.shape[-1])
        groups = hidden, cells, diff_h, diff_c, blocks
        hidden, cells, diff_h, diff_c, blocks = map(tuple, groups)
        return (hidden, cells, memory, diff_h, diff_c, blocks), y, {}
