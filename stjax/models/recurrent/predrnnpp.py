"""PredRNN++ (Wang et al., 2018): causal LSTMs and a gradient highway."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from stjax.errors import unknown
from stjax.models.recurrent.convlstm import VERSIONS
from stjax.models.recurrent.layers import Readout, split
from stjax.models.recurrent.rollout import Carry
from stjax.models.recurrent.stack import Cell, Stack

Array = jax.Array


def _narrow(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    return jax.random.uniform(key, shape, dtype, -1e-3, 1e-3)


class CausalLSTMCell(Cell):
    """Cell c, then memory m from the new c, then the output from both."""

    version: str = "0.3.0"

    @nn.compact
    def __call__(
        self, x: Array, h: Array, c: Array, m: Array
    ) -> tuple[Array, Array, Array]:
        """x [B,H,W,Cx], h c m [B,H,W,C] -> next h, c, m."""
        i_x, f_x, g_x, i_xm, f_xm, g_xm, o_x = split(self._conv("conv_x", x, 7), 7)
        i_h, f_h, g_h, o_h = split(self._conv("conv_h", h, 4), 4)
        seen = m if self.version == "0.3.0" else c
        i_c, f_c, g_c = split(self._conv("conv_c", seen, 3), 3)
        i_m, f_m, m_m = split(self._conv("conv_m", m, 3), 3)

        i = nn.sigmoid(i_x + i_h + i_c)
        f = nn.sigmoid(f_x + f_h + f_c + 1)
        c = f * c + i * jnp.tanh(g_x + g_h + g_c)

        # The order of these gates differs from the others' in the original.
        i_n, g_n, f_n, o_n = split(self._conv("conv_c2m", c, 4), 4)
        i = nn.sigmoid(i_xm + i_m + i_n)
        f = nn.sigmoid(f_xm + f_m + f_n + 1)
        m = f * jnp.tanh(m_m) + i * jnp.tanh(g_xm + g_n)
        m = m.astype(jnp.float32)

        o = jnp.tanh(o_x + o_h + o_n + self._conv("conv_om", m, 1))
        self._unused(h, conv="conv_o")
        return o * jnp.tanh(self._mix("conv_last", c, m)), c, m


class GradientHighway(Cell):
    """A gated shortcut through time from which the second layer reads."""

    @nn.compact
    def __call__(self, x: Array, z: Array) -> Array:
        """x and z [B,H,W,C] -> next z."""
        gates = self._conv("x_concat", x, 2, _narrow)
        gates = gates + self._conv("z_concat", z, 2, _narrow)
        p, u = split(gates, 2)
        u = nn.sigmoid(u)
        return u * jnp.tanh(p) + (1 - u) * z


class PredRNNpp(Stack):
    """PredRNN++ of OpenSTL: [B,T_in,H,W,C] -> [B,frames,H,W,C]; see `Rollout`.

    In the paper the gates of c see the last c. OpenSTL 0.3.0, which published the
    tables and checkpoints, showed them the memory m instead: version '0.3.0', the
    default. 'head' is the paper's. (With layer_norm the original cannot be built: the
    highway's norm has half its channels. Here it has all.) Defaults are the Moving
    MNIST configuration.
    """

    version: str = "0.3.0"

    least_layers = 2

    def setup(self) -> None:
        """One cell a layer, the highway, the readout."""
        self._check_fields()
        if self.version not in VERSIONS:
            raise unknown("version of PredRNN++", self.version, VERSIONS)
        options = self.filter_size, self.layer_norm, self.dtype
        self.cell_list = [
            CausalLSTMCell(n, *options, version=self.version) for n in self.num_hidden
        ]
        self.gradient_highway = GradientHighway(self.num_hidden[0], *options)
        self.conv_last = Readout(dtype=self.dtype)

    def begin(self, x: Array, steps: int) -> Carry:
        """Hidden states, cell states, the memory and the highway's state, all zero."""
        zeros = self._zeros(x, self.num_hidden[0])
        return *self._hidden_and_cells(x), zeros, zeros

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """One step through all layers, the highway between the first two."""
        hidden, cells, memory, z = list(state[0]), list(state[1]), *state[2:]
        below = x
        for n, cell in enumerate(self.cell_list):
            hidden[n], cells[n], memory = cell(below, hidden[n], cells[n], memory)
            below = hidden[n]
            if n == 0:
                z = self.gradient_highway(below, z)
                below = z
        y = self.conv_last(below, x.shape[-1])
        return (tuple(hidden), tuple(cells), memory, z), y, {}
