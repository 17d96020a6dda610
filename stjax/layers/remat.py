"""Recomputing a block in the backward pass instead of keeping its activations."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from stjax.errors import unknown

REMAT = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
}
"""Name -> what is kept: everything, nothing, or the results of matrix products and
convolutions (without the pointwise functions, norms and depthwise sums after them)."""


def rematerialised(
    block: type[nn.Module], how: str, static_argnums: Sequence[int] = ()
) -> type[nn.Module]:
    """A block class that keeps only what `how` names for its backward pass.

    Args:
      block: a module class.
      how: a name in `REMAT`.
      static_argnums: static arguments of its ``__call__``, counting self.

    Raises:
      UserError: for an unknown name.
    """
    if how not in REMAT:
        raise unknown("remat", how, REMAT)
    if how == "none":
        return block
    return nn.remat(block, static_argnums=tuple(static_argnums), policy=REMAT[how])
