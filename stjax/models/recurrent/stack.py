"""What the models that stack recurrent cells on patches have in common."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from stjax.errors import UserError
from stjax.layers.common import conv
from stjax.models.recurrent.layers import MapNorm
from stjax.models.recurrent.rollout import Carry, Sampled

Array = jax.Array


class Stack(Sampled):
    """Cells on p x p patches, a 1x1 readout of the top hidden state.

    Attributes:
      num_hidden: channels of the hidden state, one entry a layer.
      filter_size: side of the convolutions, odd.
      patch_size: side of the patches that become channels; divides H and W.
      layer_norm: normalise after each convolution of a cell over the whole map; the
        parameters then depend on the image size.
    """

    num_hidden: tuple[int, ...] = (128, 128, 128, 128)
    filter_size: int = 5
    patch_size: int = 4
    layer_norm: bool = False

    equal_widths = True
    least_layers = 1

    @property
    def stride(self) -> int:
        """What the sides of a frame have to be divisible by."""
        return self.patch_size

    @property
    def patch(self) -> int:
        """Side of the patches that `advance` sees as channels."""
        return self.patch_size

    def _check_fields(self) -> None:
        name, widths = type(self).__name__, tuple(self.num_hidden)
        if len(widths) < self.least_layers:
            raise UserError(
                f"{name}: got num_hidden={widths}; expected at least "
                f"{self.least_layers} layers"
            )
        if self.equal_widths and len(set(widths)) > 1:
            raise UserError(
                f"{name}: got num_hidden={widths}; one memory flows through all "
                "layers, so make the entries equal"
            )
        if self.filter_size % 2 == 0:
            raise UserError(f"{name}: filter_size={self.filter_size} must be odd")

    def _zeros(self, x: Array, channels: int) -> Array:
        return jnp.zeros((*x.shape[:-1], channels), jnp.float32)

    def _hidden_and_cells(self, x: Array) -> Carry:
        zeros = [self._zeros(x, c) for c in self.num_hidden]
        return tuple(z.astype(self.dtype) for z in zeros), tuple(zeros)


class Cell(nn.Module):
    """Base of the cells: convolutions named and normed as the originals' are."""

    features: int
    filter_size: int = 5
    layer_norm: bool = False
    dtype: jnp.dtype = jnp.float32

    def _conv(self, name: str, x: Array, gates: int, init=None) -> Array:
        """Convolution `name`_0 to gates * features channels, maybe norm `name`_1."""
        y = conv(
            x.shape[-1],
            gates * self.features,
            self.filter_size,
            use_bias=False,
            kernel_init=init,
            dtype=self.dtype,
            name=f"{name}_0",
        )(x)
        return MapNorm(name=f"{name}_1")(y) if self.layer_norm else y

    def _mix(self, name: str, *states: Array) -> Array:
        """1x1 convolution without bias of the concatenated states."""
        x = jnp.concatenate([s.astype(self.dtype) for s in states], -1)
        last = conv(
            x.shape[-1],
            self.features,
            1,
            use_bias=False,
            dtype=self.dtype,
            name=name,
        )
        return last(x)

    def _unused(self, h: Array, conv: str = "", mix: str = "") -> None:
        """Parameters that the original has and never uses; they only count."""
        if self.is_initializing():
            both = jnp.concatenate([h, h], -1)
            if conv:
                self._conv(conv, both, 1)
            if mix:
                self._mix(mix, both)
