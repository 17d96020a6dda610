"""MAU (Chang et al., 2021): a motion-aware unit that attends to its own past."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from stjax.errors import UserError, unknown
from stjax.layers.common import conv
from stjax.models.recurrent.layers import ConvTranspose, MapNorm, Readout, split
from stjax.models.recurrent.rollout import Carry, Sampled

Array = jax.Array


class MAUCell(nn.Module):
    """Temporal state t and spatial state s, with attention over the last tau steps."""

    features: int
    filter_size: int = 5
    residual: bool = False
    dtype: jnp.dtype = jnp.float32

    def _conv(self, name: str, x: Array, parts: int) -> Array:
        y = conv(
            x.shape[-1],
            parts * self.features,
            self.filter_size,
            dtype=self.dtype,
            name=f"{name}_0",
        )(x)
        return MapNorm(name=f"{name}_1")(y)

    @nn.compact
    def __call__(
        self, t: Array, s: Array, past_t: Array, past_s: Array
    ) -> tuple[Array, Array]:
        """t and s [B,H,W,C], their past [tau,B,H,W,C] -> next t, s."""
        query = self._conv("conv_s_next", s, 1).astype(jnp.float32)
        gate = nn.sigmoid(self._conv("conv_t_next", t, 1))

        scale = query[0].size ** -0.5
        likeness = jnp.einsum("kbhwc,bhwc->kb", past_s.astype(jnp.float32), query)
        weights = nn.softmax(likeness * scale, axis=0)
        trend = jnp.einsum("kb,kbhwc->bhwc", weights.astype(past_t.dtype), past_t)
        fused = gate * t + (1 - gate) * trend

        gate_t, t_t, s_t = split(self._conv("conv_t", fused, 3), 3)
        gate_s, t_s, s_s = split(self._conv("conv_s", s, 3), 3)
        gate_t, gate_s = nn.sigmoid(gate_t), nn.sigmoid(gate_s)
        next_t = gate_t * t_t + (1 - gate_t) * t_s
        next_s = gate_s * s_s + (1 - gate_s) * s_t
        return next_t, next_s + s if self.residual else next_s


class Encoder(nn.Module):
    """One stage: a convolution and LeakyReLU(0.2)."""

    features: int
    conv_name: str
    kernel: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,C] -> [B,H/stride,W/stride,features]."""
        y = conv(
            x.shape[-1],
            self.features,
            self.kernel,
            strides=self.stride,
            dtype=self.dtype,
            name=self.conv_name,
        )(x)
        return nn.leaky_relu(y, 0.2)


class Decoder(nn.Module):
    """One stage: a transposed convolution of stride 2."""

    features: int
    conv_name: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,C] -> [B,2H,2W,features]."""
        return ConvTranspose(self.features, 2, self.dtype, name=self.conv_name)(x)


class MAU(Sampled):
    """MAU of OpenSTL: [B,T_in,H,W,C] -> [B,frames,H,W,C]; see `Rollout`.

    The norms are affine over whole maps, so parameters hold for one image size.
    (OpenSTL's later trainer forgets to lower the sampling probability; 0.3.0 does
    what is done here.) Defaults are the Moving MNIST configuration.

    Attributes:
      num_hidden: channels, equal, one entry a layer.
      filter_size: side of the cells' convolutions, odd.
      sr_size: 2^n: how far the encoder reduces the sides.
      tau: how many past steps a cell attends to.
      cell_mode: 'normal', or 'residual': the spatial state is added to its input.
      model_mode: 'normal', or 'recall': encoder features are added in the decoder.
    """

    num_hidden: tuple[int, ...] = (64, 64, 64, 64)
    filter_size: int = 5
    sr_size: int = 4
    tau: int = 5
    cell_mode: str = "normal"
    model_mode: str = "normal"

    @property
    def stride(self) -> int:
        """What the sides of a frame have to be divisible by."""
        return self.sr_size

    def _check_fields(self) -> None:
        if self.sr_size < 1 or self.sr_size & (self.sr_size - 1):
            raise UserError(f"MAU: sr_size={self.sr_size} is not a power of 2")
        if len(set(self.num_hidden)) > 1:
            raise UserError(
                f"MAU: got num_hidden={tuple(self.num_hidden)}; the states climb the "
                "layers, so make the entries equal"
            )
        if self.filter_size % 2 == 0:
            raise UserError(f"MAU: filter_size={self.filter_size} must be odd")
        for field, other in (("cell_mode", "residual"), ("model_mode", "recall")):
            value = getattr(self, field)
            if value not in ("normal", other):
                raise unknown(f"{field} of MAU", value, ("normal", other))

    def setup(self) -> None:
        """Encoder and decoder stages, one cell a layer, the readout."""
        self._check_fields()
        width, d = self.num_hidden[0], self.dtype
        halvings = self.sr_size.bit_length() - 1
        self.encoders = [Encoder(width, "encoder_t_conv-1", 1, 1, d)] + [
            Encoder(width, f"encoder_t{n}", 3, 2, d) for n in range(halvings)
        ]
        self.cell_list = [
            MAUCell(width, self.filter_size, self.cell_mode == "residual", d)
            for _ in self.num_hidden
        ]
        self.decoders = [Decoder(width, f"c_decoder{n}", d) for n in range(halvings)]
        self.srcnn = [Readout(True, d)]
        # The original has these two and never uses them.
        self.merge = Readout(True, d)
        self.conv_last_sr = Readout(True, d)

    def begin(self, x: Array, steps: int) -> Carry:
        """Temporal states and the past of both states of each layer, all zero."""
        batch, height, width, _ = x.shape
        space = height // self.sr_size, width // self.sr_size, self.num_hidden[0]
        state = jnp.zeros((batch, *space), self.dtype)
        past = jnp.zeros((self.tau, batch, *space), self.dtype)
        layers = len(self.num_hidden)
        return (state,) * layers, (past,) * layers, (past,) * layers

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """Encode, one step through all cells, decode."""
        temporal, past_t, past_s = map(list, state)
        features, s = [], x
        for encoder in self.encoders:
            s = encoder(s)
            features.append(s)
        for n, cell in enumerate(self.cell_list):
            seen = s
            temporal[n], s = cell(temporal[n], s, past_t[n], past_s[n])
            past_s[n] = jnp.concatenate([past_s[n][1:], seen[None]])
            past_t[n] = jnp.concatenate([past_t[n][1:], temporal[n][None]])
        for n, decoder in enumerate(self.decoders):
            s = decoder(s)
            if n < len(self.decoders) - 1:
                s = nn.leaky_relu(s, 0.2)
            if self.model_mode == "recall":
                s = s + features[-2 - n]
        y = self.srcnn[0](s, x.shape[-1])
        if self.is_initializing():
            self.merge(jnp.concatenate([s, s], -1), s.shape[-1])
            self.conv_last_sr(jnp.concatenate([x, x], -1), x.shape[-1])
        return (tuple(temporal), tuple(past_t), tuple(past_s)), y, {}
