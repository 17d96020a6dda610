"""Long rollouts, block by block, in device memory that does not grow with them.

A model predicts further than it was trained to in the way it recurses itself; what a
block leaves behind for the next one depends on the model:

* one that feeds its predictions back (``feeds_back``: SimVP with TAU, PredFormer): the
  last T_in frames known so far, which with T_out = T_in are its own predictions only;
* a recurrent one (``begin_rollout`` and ``go_on``): its state and its last prediction.
  Nothing is read again, so block borders do not show. E3D-LSTM attends to all of its
  past (``keeps_all``), so its state is as large as the whole rollout.

Either way the result is that of one call ``model(x, frames=N)``.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn


@dataclasses.dataclass(frozen=True)
class Recursion:
    """A model in blocks; its functions are traceable.

    Attributes:
      model: a predictor.
      block: frames that a recurrent model predicts in a block; another one predicts
        those of one call.
    """

    model: nn.Module
    block: int

    @property
    def bounded(self) -> bool:
        """Whether the number of frames has to be known at the start."""
        return getattr(self.model, "keeps_all", False)

    def start(self, variables: dict, x: jax.Array, frames: int) -> object:
        """What the first block starts from.

        Args:
          variables: of the model.
          x: [B, T_in, H, W, C], normalised.
          frames: at most so many will be predicted, where that is `bounded`.
        """
        if _feeds_back(self.model):
            return x
        frames = -(-frames // self.block) * self.block  # a last block is a whole one
        return self.model.apply(variables, x, frames, method="begin_rollout")

    def step(
        self, variables: dict, carry: object, sides: tuple[int, int]
    ) -> tuple[object, jax.Array]:
        """What the next block starts from, and this one [B, block, H, W, C]."""
        if _feeds_back(self.model):
            y = self.model.apply(variables, carry, train=False)
            return jnp.concatenate([carry, y], 1)[:, -carry.shape[1] :], y
        carry, y = self.model.apply(variables, carry, self.block, method="go_on")
        return carry, y[:, :, : sides[0], : sides[1]]


def recursion(model: nn.Module, block: int) -> Recursion | None:
    """The model in blocks; None for one that does not say how it recurses."""
    knows = _feeds_back(model) or hasattr(model, "go_on")
    return Recursion(model, block) if knows else None


def _feeds_back(model: nn.Module) -> bool:
    return getattr(model, "feeds_back", False)
