"""SimVP whose translator blocks each have a unit of their own: a search space."""

from functools import partial

import flax.linen as nn
import jax

from stjax.errors import UserError
from stjax.layers.mixed import MixedNet, mixed_slots
from stjax.layers.slots import ALL, Masks, Slot, built_paths
from stjax.models.sides import check_clip
from stjax.models.simvp import SimVP


class MixedSimVP(SimVP):
    """SimVP with a choice of token mixer in each translator block.

    Units: ``tau`` and its halves ``tau_static`` and ``tau_dynamic``, ``gsta``,
    ``local`` and ``global`` (UniFormer's MHRA on the stacked map) and ``non_local``.
    With every unit ``tau`` (or ``gsta``) it is the ordinary model of that translator,
    but for the names of parameters: ``block/tau/...`` is ``block/attn/...`` there, and
    ``layer_scale_1_tau/scale`` is ``layer_scale_1``. See `stjax.layers.mixed` for the
    blocks and `stjax.layers.slots` for slots.

    Attributes:
      translator: always "mixed".
      units: the unit of every block, one name for all, or ``"all"``: the template.
      layer_scale: of all residual branches at birth; 0.01 in TAU and gSTA.

    The others are those of `SimVP`; ``scan`` is not possible, as blocks differ.
    """

    translator: str = "mixed"
    units: str | tuple[str, ...] = ALL
    layer_scale: float = 1e-2

    @property
    def slots(self) -> tuple[Slot, ...]:
        """A slot for each block of the translator."""
        return mixed_slots(self.n_t)

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        frames: int | None = None,
        train: bool = False,
        masks: Masks | None = None,
    ) -> jax.Array:
        """Predicts `frames` frames.

        Args:
          x: [B, T_in, H, W, C_in], in the range the model was trained on.
          frames: see `SimVP`.
          train: batch statistics and drop path (rng stream 'dropout').
          masks: factors of the paths, by slot.

        Returns:
          [B, frames, H, W, C_out] float32, not clipped.

        Raises:
          UserError: if a field or the shape of `x` cannot work.
        """
        check_clip(x)
        self._check()
        enc, hid, dec = self._networks(x.shape[-1])
        networks = enc, partial(hid, masks=masks), dec
        return self._predict(networks, x, frames, train)

    def _check(self) -> None:
        super()._check()
        if self.translator != "mixed" or self.scan:
            raise UserError(
                "simvp_mixed has blocks of many kinds: translator has to be 'mixed' and"
                f" scan False, got {self.translator!r} and {self.scan}"
            )

    def _translator(self) -> nn.Module:
        rates = (self.drop_path_floor, self.drop_path_rate)
        return MixedNet(
            tuple(built_paths(self.slots, self.units).values()),
            *(self.hid_t, self.mlp_ratio, rates, self.layer_scale),
            *(self.remat, self.dtype),
            name="hid",
        )
