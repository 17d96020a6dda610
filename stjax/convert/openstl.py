"""OpenSTL's ``SimVP_Model`` (chengtan9907/OpenSTL, Apache-2.0)."""

import math

import flax.linen as nn

from stjax.convert.family import Family, StateDict
from stjax.errors import UserError
from stjax.layers.swin import window_size


def _input_shape(model: nn.Module, state: StateDict) -> tuple[int, int, int, int]:
    first = state.get("enc.enc.0.conv.conv.weight")
    if first is None:
        raise UserError(
            "not a SimVP checkpoint of OpenSTL: it has no enc.enc.0.conv.conv.weight"
        )
    # Without a reduction at the end the translator's width is T * hid_s.
    ends = (
        f"hid.enc.{model.n_t - 1}.reduction.weight",
        f"hid.dec.{model.n_t - 1}.layers.0.conv.weight",  # IncepU
    )
    stacked = next((state[k].shape[0] for k in ends if k in state), model.hid_t)
    return stacked // model.hid_s, *_sides(model, state), first.shape[1]


def _sides(model: nn.Module, state: StateDict) -> tuple[int, int]:
    # Any size does, except for translators that mix positions by weights.
    h = w = 8
    mixer = state.get("hid.enc.0.block.mlp_tokens.fc2.weight")
    swin = state.get("hid.enc.0.block.attn.relative_position_bias_table")
    if mixer is not None:  # only the number of positions counts
        h, w = mixer.shape[0], 1
    elif swin is not None:
        window = (math.isqrt(swin.shape[0]) + 1) // 2
        h = w = window if window_size(window, window) == window else 16 * window
    scale = 2 ** (model.n_s // 2)
    return h * scale, w * scale


_NATIVE = """
    proj_1 proj_2 layer_scale_1 layer_scale_2 norm_1 norm_2 gamma_1 gamma_2
"""

FAMILY = Family(
    input_shape=_input_shape,
    native=frozenset(_NATIVE.split()),
    ignored=r"\.(num_batches_tracked|relative_position_index|attn_mask)$",
)
