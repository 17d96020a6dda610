"""OpenSTL's recurrent models (chengtan9907/OpenSTL, Apache-2.0).

All keys but these follow the general rule:

================================  =================================================
original                          here
================================  =================================================
``phycell.*`` ``convcell.*``      PhyDNet lists both a second time, ``encoder.*``
``k2m.*``                         PhyDNet's constant matrices; not parameters
``*.attn_mask``                   SwinLSTM's constants, computed from the shapes
``*.relative_position_index``     likewise
``upc*`` ``c_decoder*`` ``Conv``  transposed convolutions
================================  =================================================
"""

import re

import flax.linen as nn

from stjax.convert.family import Family, StateDict
from stjax.errors import UserError

# Class of ours -> key of the layer that reads the frames, its axis of channels.
_FRAME = {
    "ConvLSTM": ("conv_last.weight", 0),
    "PredRNN": ("conv_last.weight", 0),
    "PredRNNpp": ("conv_last.weight", 0),
    "PredRNNv2": ("conv_last.weight", 0),
    "MIM": ("conv_last.weight", 0),
    "E3DLSTM": ("conv_last.weight", 0),
    "MAU": ("encoders.0.encoder_t_conv-1.weight", 1),
    "PhyDNet": ("encoder.encoder_E.c1.main.0.weight", 1),
    "SwinLSTM": ("Downsample.patch_embed.proj.weight", 1),
    "SwinLSTMB": ("ST.patch_embed.proj.weight", 1),
}


def _input_shape(model: nn.Module, state: StateDict) -> tuple[int, int, int, int]:
    name = type(model).__name__
    key, axis = _FRAME[name]
    if key not in state:
        raise UserError(f"not a {name} checkpoint of OpenSTL: it has no {key}")
    channels, odd = divmod(state[key].shape[axis], model.patch**2)
    if odd:
        raise UserError(
            f"{key} has {state[key].shape[axis]} channels, not a multiple of "
            f"{model.patch**2}: is patch_size={model.patch} the checkpoint's?"
        )
    height, width = _map_sides(model, state)
    return 1, height * model.stride, width * model.stride, channels


def _map_sides(model: nn.Module, state: StateDict) -> tuple[int, int]:
    """Sides of the maps that parameters cover; any will do where none does."""
    if hasattr(model, "window_size"):
        return model.window_size, model.window_size
    for key, value in state.items():
        if value.ndim == 3 or re.search(r"_norm_c_t\.weight$", key):
            return value.shape[-2:]
    return 8, 8


FAMILY = Family(
    input_shape=_input_shape,
    ignored=r"^k2m\.|\.attn_mask$|\.relative_position_index$",
    aliases=((r"^encoder\.(phycell|convcell)\.", r"\1."),),
    transposed=r"\.(upc\d|upc\d\.main\.0|c_decoder\d+|Conv)\.weight$",
)
