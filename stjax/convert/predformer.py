"""PredFormer's published weights (variants full and quad_tsst)."""

import flax.linen as nn

from stjax.convert.family import Family, StateDict
from stjax.errors import UserError


def _input_shape(model: nn.Module, state: StateDict) -> tuple[int, int, int, int]:
    patch = state.get("to_patch_embedding.1.weight")
    if patch is None:
        raise UserError(
            "not a PredFormer checkpoint: it has no to_patch_embedding.1.weight"
        )
    # Positions are computed, so any number of frames and patches does.
    p = model.patch_size
    return 2, p, p, max(1, patch.shape[1] // p**2)


FAMILY = Family(input_shape=_input_shape)
