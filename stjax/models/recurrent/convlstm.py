"""ConvLSTM (Shi et al., 2015) as a stack of cells that predicts frame by frame."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from stjax.errors import unknown
from stjax.models.recurrent.layers import Readout, split
from stjax.models.recurrent.rollout import Carry
from stjax.models.recurrent.stack import Cell, Stack

Array = jax.Array
VERSIONS = ("0.3.0", "head")


class ConvLSTMCell(Cell):
    """Gates from conv(x) + conv(h), without peepholes and without forget bias."""

    version: str = "0.3.0"

    @nn.compact
    def __call__(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """x [B,H,W,Cx], h and c [B,H,W,C] -> next h, c."""
        gates = self._conv("conv_x", x, 4) + self._conv("conv_h", h, 4)
        i, f, g, o = split(gates, 4)
        i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
        c = f * c + i * g
        out = g if self.version == "0.3.0" else jnp.tanh(c)
        self._unused(h, conv="conv_o", mix="conv_last")
        return (o * out).astype(self.dtype), c


class ConvLSTM(Stack):
    """ConvLSTM of OpenSTL: [B,T_in,H,W,C] -> [B,frames,H,W,C]; see `Rollout`.

    The paper's hidden state is ``o * tanh(c)``. OpenSTL 0.3.0, which published the
    tables and checkpoints, computed ``o * g``: that is version '0.3.0', the default.
    'head' is the paper's formula, which the code has since December 2023. Defaults
    are the Moving MNIST configuration; the L model has num_hidden (192,) * 4.
    """

    version: str = "0.3.0"

    equal_widths = False

    def setup(self) -> None:
        """One cell a layer; the readout learns the frame's channels from the call."""
        self._check_fields()
        if self.version not in VERSIONS:
            raise unknown("version of ConvLSTM", self.version, VERSIONS)
        self.cell_list = [
            ConvLSTMCell(
                n, self.filter_size, self.layer_norm, self.dtype, version=self.version
            )
            for n in self.num_hidden
        ]
        self.conv_last = Readout(dtype=self.dtype)

    def begin(self, x: Array, steps: int) -> Carry:
        """Hidden and cell states, all zero."""
        return self._hidden_and_cells(x)

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """One step through all layers."""
        hidden, cells = list(state[0]), list(state[1])
        below = x
        for n, cell in enumerate(self.cell_list):
            hidden[n], cells[n] = cell(below, hidden[n], cells[n])
            below = hidden[n]
        y = self.conv_last(below, x.shape[-1])
        return (tuple(hidden), tuple(cells)), y, {}
