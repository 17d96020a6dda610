"""SimVP: spatial encoder, temporal translator, spatial decoder.

Gao et al., CVPR 2022 (arXiv 2206.05099); with the TAU translator, Tan et al., CVPR 2023
(arXiv 2206.12126). Architecture, names and initialisation follow OpenSTL's
``SimVP_Model``, so that its checkpoints convert one to one.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError, unknown
from stjax.layers.common import Dtype
from stjax.layers.remat import REMAT
from stjax.layers.translators import make_translator, reach
from stjax.models.recursion import extend
from stjax.models.sides import check_clip, fit_sides
from stjax.models.spatial import Decoder, Encoder
from stjax.sharding.activations import constrain_rows


class SimVP(nn.Module):
    """Predicts the next frames of a clip; with ``translator='tau'`` it is TAU.

    Attributes:
      translator: temporal module, a name in `stjax.layers.translators.TRANSLATORS`.
        T_in is fixed by the weights; the frame size only for ``mlpmixer`` (all
        positions) and ``swin`` (its window follows from the height). ``incepu`` has
        no use for `mlp_ratio` and drop path.
      hid_s: channels of encoder and decoder; even (GroupNorm of 2 groups).
      hid_t: channels of the translator between its first and last block.
      n_s: layers of encoder and of decoder; sides shrink by ``2 ** (n_s // 2)``.
      n_t: translator blocks, at least 2.
      mlp_ratio: of the blocks' MLPs. OpenSTL's configurations all use 8.
      drop_path_rate: of the last block of the translator.
      drop_path_floor: of the first block; linear in between. The official code has
        0.01 here even where `drop_path_rate` is 0.
      spatio_kernel_enc: kernel size of the encoder.
      spatio_kernel_dec: kernel size of the decoder.
      t_out: frames that one call predicts; None: as many as it is given. Otherwise
        the skip connection is mixed over time by a learned matrix.
      out_channels: None: as many as the input has.
      pad_sides: pad sides that do not divide (edge values) and crop the prediction.
      remat: ``"none"``, or recompute the layers of encoder and decoder and the
        translator's blocks in the backward pass, all of them (``"full"``) or all but
        matrix products and convolutions (``"dots"``).
      scan: run the translator's equal blocks in one loop: compiles faster; see
        `stjax.stacked` for the variables.
      dtype: compute dtype; parameters and the prediction are float32.
    """

    translator: str = "tau"
    hid_s: int = 16
    hid_t: int = 256
    n_s: int = 4
    n_t: int = 4
    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    drop_path_floor: float = 0.01
    spatio_kernel_enc: int = 3
    spatio_kernel_dec: int = 3
    t_out: int | None = None
    out_channels: int | None = None
    pad_sides: bool = False
    remat: str = "none"
    scan: bool = False
    dtype: Dtype = jnp.float32

    feeds_back = True  # beyond one call, see `extend`

    @nn.compact
    def __call__(
        self, x: jax.Array, *, frames: int | None = None, train: bool = False
    ) -> jax.Array:
        """Predicts `frames` frames.

        More frames than one call gives are predicted from the predictions: each
        further call sees the last T_in frames known so far, and gradients flow
        through all calls. Fewer: the first ones are kept.

        Args:
          x: [B, T_in, H, W, C_in], in the range the model was trained on.
          frames: how many to predict; None for those of one call.
          train: batch statistics and drop path (rng stream 'dropout').

        Returns:
          [B, frames, H, W, C_out] float32, not clipped.

        Raises:
          UserError: if a field or the shape of `x` cannot work.
        """
        check_clip(x)
        self._check()
        return self._predict(self._networks(x.shape[-1]), x, frames, train)

    def _check(self) -> None:
        if self.n_t < 2 or self.n_s < 2 or self.n_s % 2 or self.hid_s % 2:
            raise UserError(
                f"n_s {self.n_s} and hid_s {self.hid_s} must be even and n_t "
                f"{self.n_t} at least 2"
            )
        if self.remat not in REMAT:
            raise unknown("remat", self.remat, REMAT)

    def _networks(self, channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        kw = {"remat": self.remat, "dtype": self.dtype}
        enc = Encoder(self.hid_s, self.n_s, self.spatio_kernel_enc, name="enc", **kw)
        dec = Decoder(
            self.hid_s,
            self.n_s,
            self.spatio_kernel_dec,
            self.out_channels or channels,
            name="dec",
            **kw,
        )
        return enc, self._translator(), dec

    def _translator(self) -> nn.Module:
        return make_translator(
            self.translator,
            self.hid_t,
            self.n_t,
            self.mlp_ratio,
            (self.drop_path_floor, self.drop_path_rate),
            self.remat,
            self.dtype,
            name="hid",
            scan=self.scan,
        )

    def _predict(self, networks, x, frames: int | None, train: bool) -> jax.Array:
        mix = self._time_mix(x.shape[1])
        return extend(
            lambda clip: self._call(networks, mix, clip, train=train),
            x,
            frames or self.t_out or x.shape[1],
        )

    def _call(self, networks, mix, x: jax.Array, *, train: bool) -> jax.Array:
        """One block of frames from one block of frames."""
        encoder, translator, decoder = networks
        height, width = x.shape[2:4]
        x = fit_sides(x, 2 ** (self.n_s // 2), self.pad_sides)
        b, t = x.shape[:2]
        t_out = self.t_out or t
        frames = x.reshape(b * t, *x.shape[2:]).astype(self.dtype)
        latent, skip = encoder(constrain_rows(frames))

        _, h, w, c = latent.shape
        latent = constrain_rows(latent.reshape(b, t, h, w, c))
        stacked = latent.transpose(0, 2, 3, 1, 4)
        stacked = stacked.reshape(b, h, w, t * c)
        # As the encoder has it, then as the translator wants it; and back.
        rows = reach(self.translator)
        stacked = constrain_rows(constrain_rows(stacked), rows)
        stacked = translator(stacked, t_out * c, train=train)
        stacked = constrain_rows(constrain_rows(stacked, rows))
        latent = stacked.reshape(b, h, w, t_out, c).transpose(0, 3, 1, 2, 4)
        latent = constrain_rows(latent).reshape(b * t_out, h, w, c)

        if mix is not None:
            skip = skip.reshape(b, t, *skip.shape[1:])
            skip = jnp.einsum("bthwc,ts->bshwc", skip, mix.astype(skip.dtype))
            skip = skip.reshape(b * t_out, *skip.shape[2:])
        y = decoder(constrain_rows(latent), skip).astype(jnp.float32)
        return y.reshape(b, t_out, *y.shape[1:])[:, :, :height, :width]

    def _time_mix(self, t_in: int) -> jax.Array | None:
        """[T_in, t_out], how skips mix over time; at birth every frame is the last."""
        if self.t_out in (None, t_in):
            return None

        def last(_, shape):
            return jnp.zeros(shape).at[-1].set(1.0)

        return self.param("skip_time", last, (t_in, self.t_out))
