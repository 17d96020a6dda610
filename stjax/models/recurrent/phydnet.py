"""PhyDNet (Le Guen and Thome, 2020): known dynamics and the unknown rest apart."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from stjax.errors import UserError
from stjax.layers.common import conv
from stjax.models.recurrent.layers import ConvTranspose, split
from stjax.models.recurrent.phycell import PhysicalBranch, moment_loss
from stjax.models.recurrent.rollout import Carry, Rollout

Array = jax.Array
WIDTH = 64
LSTM_WIDTHS = (128, 128, 64)


class ConvBlock(nn.Module):
    """Convolution 3x3 (or its transpose), GroupNorm(16), LeakyReLU(0.2)."""

    features: int
    stride: int = 1
    up: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,C] -> features at H / stride, or H * stride with `up`."""
        if self.up:
            x = ConvTranspose(self.features, self.stride, self.dtype, name="main_0")(x)
        else:
            x = conv(
                x.shape[-1],
                self.features,
                3,
                strides=self.stride,
                dtype=self.dtype,
                name="main_0",
            )(x)
        norm = nn.GroupNorm(
            16, epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="main_1"
        )
        return nn.leaky_relu(norm(x), 0.2)


class Coder(nn.Module):
    """Blocks of given widths and strides, named ``c1``, ``c2`` ... or ``upc1`` ..."""

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    up: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, image_channels: int = 0, stride: int = 1) -> Array:
        """With `image_channels`, a last transposed convolution makes the image."""
        prefix = "upc" if self.up else "c"
        for n, (width, s) in enumerate(zip(self.widths, self.strides, strict=True), 1):
            x = ConvBlock(width, s, self.up, self.dtype, name=f"{prefix}{n}")(x)
        if image_channels:
            name = f"{prefix}{len(self.widths) + 1}"
            x = ConvTranspose(image_channels, stride, self.dtype, name=name)(x)
        return x


class ResidualCell(nn.Module):
    """ConvLSTM with one convolution of [x, h], gates i f o g, no forget bias."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """x [B,H,W,Cx], h and c [B,H,W,C] -> next h, c."""
        both = jnp.concatenate([x, h], -1)
        gates = conv(
            both.shape[-1], 4 * self.features, 3, dtype=self.dtype, name="conv"
        )
        i, f, o, g = split(gates(both), 4)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return (nn.sigmoid(o) * jnp.tanh(c)).astype(self.dtype), c


class ResidualBranch(nn.Module):
    """Three ConvLSTM cells."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, hidden: Carry, cells: Carry) -> tuple[Carry, Carry]:
        """x [B,H,W,C] -> next hidden and cell states."""
        hidden, cells = list(hidden), list(cells)
        for n, width in enumerate(LSTM_WIDTHS):
            cell = ResidualCell(width, self.dtype, name=f"cell_list_{n}")
            hidden[n], cells[n] = cell(x, hidden[n], cells[n])
            x = hidden[n]
        return tuple(hidden), tuple(cells)


class Network(nn.Module):
    """Encoder, the two branches, decoder: one step of PhyDNet."""

    patch_size: int
    dtype: jnp.dtype

    def setup(self) -> None:
        """The parts, under the original's names."""
        d, outer = self.dtype, self.patch_size // 2
        pair = (WIDTH, WIDTH), (1, 1)
        self.encoder_E = Coder((32, 32, WIDTH), (2, 1, outer), dtype=d)
        self.encoder_Ep = Coder(*pair, dtype=d)
        self.encoder_Er = Coder(*pair, dtype=d)
        self.decoder_Dp = Coder(*pair, up=True, dtype=d)
        self.decoder_Dr = Coder(*pair, up=True, dtype=d)
        self.decoder_D = Coder((32, 32), (2, 1), up=True, dtype=d)
        self.phycell = PhysicalBranch(d)
        self.convcell = ResidualBranch(d)

    def __call__(self, x: Array, state: Carry) -> tuple[Carry, Array, Array]:
        """Frame [B,H,W,C] -> next state, decoded physical and residual parts."""
        physical, hidden, cells = state
        x = self.encoder_E(x)
        physical = self.phycell(self.encoder_Ep(x), physical)
        hidden, cells = self.convcell(self.encoder_Er(x), hidden, cells)
        parts = self.decoder_Dp(physical), self.decoder_Dr(hidden[-1])
        return (physical, hidden, cells), *parts

    def image(self, features: Array, channels: int) -> Array:
        """Features [B,h,w,64] -> image [B,H,W,channels] in (0, 1)."""
        y = self.decoder_D(features, channels, self.patch_size // 2)
        return nn.sigmoid(y.astype(jnp.float32))


class PhyDNet(Rollout):
    """PhyDNet of OpenSTL: [B,T_in,H,W,C] -> [B,frames,H,W,C]; see `Rollout`.

    A PhyCell, whose 7x7 filters are drawn towards partial derivatives, and a ConvLSTM
    for the residual share one encoder and decoder; the output is a sigmoid. With
    ``mutable='intermediates'`` the pictures of either branch alone are kept as
    'physical' and 'residual' [B,T_in+frames-1,H,W,C].

    Loss: the paper sums the MSE over the S = T_in + T_out - 1 steps and adds
    `moment_loss`. The training step takes the mean over the steps (loss 'mse'), so
    moment_weight * moment_loss / S is sown as 'moments': the same total up to the
    factor S, which does not matter to Adam. (OpenSTL's trainer then took this scalar
    for a prediction and minimised its MSE to the target; that is not reproduced.)

    Teacher forcing: one coin a batch shows all or none of the future, with
    P = max(0, 1 - teacher_decay * epoch).

    Attributes:
      patch_size: 4 or 2: how far the encoder reduces the sides.
      moment_weight: of the moment loss.
      teacher_decay: loss of probability an epoch.
      steps_per_epoch: updates in an epoch (625: 10,000 clips in batches of 16).
    """

    patch_size: int = 4
    moment_weight: float = 1.0
    teacher_decay: float = 0.003
    steps_per_epoch: int = 625

    @property
    def stride(self) -> int:
        """What the sides of a frame have to be divisible by."""
        return self.patch_size

    def setup(self) -> None:
        """All parameters are in `encoder`, as in the original."""
        if self.patch_size not in (2, 4):
            raise UserError(f"PhyDNet: patch_size={self.patch_size}; it is 2 or 4")
        self.encoder = Network(self.patch_size, self.dtype)

    def begin(self, x: Array, steps: int) -> Carry:
        """The physical state, hidden and cell states, all zero."""
        batch, height, width, _ = x.shape
        space = batch, height // self.patch_size, width // self.patch_size
        cells = tuple(jnp.zeros((*space, n), jnp.float32) for n in LSTM_WIDTHS)
        hidden = tuple(c.astype(self.dtype) for c in cells)
        return jnp.zeros((*space, WIDTH), jnp.float32), hidden, cells

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """One step; the parts are kept for `finish`."""
        state, physical, residual = self.encoder(x, state)
        y = self.encoder.image(physical + residual, x.shape[-1])
        return state, y, {"physical": physical, "residual": residual}

    def tokens(self, step: Array | int, batch: int, t_in: int, t_out: int) -> Array:
        """All or nothing, for the whole batch."""
        epoch = jnp.asarray(step) // self.steps_per_epoch
        p = jnp.maximum(0.0, 1.0 - self.teacher_decay * epoch)
        coin = jax.random.uniform(self.make_rng("dropout")) < p
        return jnp.broadcast_to(coin, (batch, t_out - 1))

    def finish(self, y: Array, extras: dict, train: bool) -> None:
        """Sows the moment loss, and the pictures if somebody keeps them."""
        batch, steps, *_, channels = y.shape
        if self.is_mutable_collection("intermediates"):
            for name, features in extras.items():
                features = jnp.moveaxis(features, 0, 1)
                images = self.encoder.image(
                    features.reshape(-1, *features.shape[2:]), channels
                )
                self.sow("intermediates", name, images.reshape(y.shape))
        if train:
            params = self.variables["params"]["encoder"]["phycell"]["cell_list_0"]
            loss = moment_loss(params["F"]["conv1"]["kernel"])
            self.sow("losses", "moments", self.moment_weight * loss / steps)
