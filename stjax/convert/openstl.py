"""OpenSTL's ``SimVP_Model`` (chengtan9907/OpenSTL, Apache-2.0)."""

import flax.linen as nn

from stjax.convert.family import Family, StateDict
from stjax.errors import UserError


def _input_shape(model: nn.Module, state: StateDict) -> tuple[int, int, int, int]:
    first = state.get("enc.enc.0.conv.conv.weight")
    if first is None:
        raise UserError(
            "not a SimVP checkpoint of OpenSTL: it has no enc.enc.0.conv.conv.weight"
        )
    # Without a reduction at the end the translator's width is T * hid_s.
    stacked = model.hid_t
    last = state.get(f"hid.enc.{model.n_t - 1}.reduction.weight")
    if last is not None:
        stacked = last.shape[0]
    elif "hid.enc.0.norm.weight" in state:  # IncepU: its last block ends the U-Net
        stacked = state[f"hid.dec.{model.n_t - 1}.layers.0.conv.weight"].shape[0]
    return stacked // model.hid_s, *_sides(model, state), first.shape[1]


def _sides(model: nn.Module, state: StateDict) -> tuple[int, int]:
    # Any size does, except for translators that mix all positions by weights.
    scale = 2 ** (model.n_s // 2)
    mix = state.get("hid.enc.0.block.mlp_tokens.fc2.weight")
    side = 8 if mix is None else int(round(mix.shape[0] ** 0.5))
    return side * scale, side * scale


FAMILY = Family(
    input_shape=_input_shape,
    native=frozenset({"proj_1", "proj_2", "layer_scale_1", "layer_scale_2"}),
)
