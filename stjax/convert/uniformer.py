"""UniFormer for video: Sense-X/UniFormer (Apache-2.0) and mmaction2's port.

mmaction2 has the same entries, all but the head's under ``backbone.``. Two things
differ there. Its checkpoints are the authors' with the **classes in another order**
(of mmaction2's label map; see `stjax.convert.labels`), and its LayerNorms all have the
epsilon 1e-5; here it is the authors' 1e-6 inside blocks.
"""

import flax.linen as nn

from stjax.convert.family import Family, StateDict
from stjax.errors import UserError

_BACKBONE, _HEAD = "backbone.", "cls_head.fc_cls."


def from_mmaction2(state_dict: StateDict) -> StateDict:
    """mmaction2's keys to the authors'; a dict with other keys comes back as it is."""
    if not any(k.startswith(_BACKBONE) for k in state_dict):
        return state_dict
    state = {}
    for key, value in state_dict.items():
        if key.startswith(_HEAD):
            key = "head." + key.removeprefix(_HEAD)
        state[key.removeprefix(_BACKBONE)] = value
    return state


def to_mmaction2(state_dict: StateDict) -> StateDict:
    """The authors' keys, as `stjax.convert.to_torch` gives them, to mmaction2's."""
    return {
        _HEAD + k.removeprefix("head.") if k.startswith("head.") else _BACKBONE + k: v
        for k, v in state_dict.items()
    }


def _input_shape(model: nn.Module, state: StateDict) -> tuple[int, int, int, int]:
    stem = state.get("patch_embed1.proj.weight")
    if stem is None:
        raise UserError(
            "not a UniFormer checkpoint: it has no patch_embed1.proj.weight"
        )
    # Any size does: no weight depends on it.
    return 2, 32, 32, stem.shape[1]


FAMILY = Family(
    input_shape=_input_shape,
    adapt=from_mmaction2,
    projects={"mmaction2": to_mmaction2},
    head="head.weight",
    optional=r"\.t_(norm|attn)\.",
)
