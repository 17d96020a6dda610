"""The one table of model names."""

import dataclasses
import importlib

import flax.linen as nn

from stjax.errors import unknown

# Name -> (where the class is, fields that the name stands for).
MODELS: dict[str, tuple[str, dict]] = {
    "simvp": ("stjax.models.simvp:SimVP", {"translator": "gsta"}),
    "tau": ("stjax.models.simvp:SimVP", {"translator": "tau"}),
    "predformer": ("stjax.models.predformer:PredFormer", {}),
    "convlstm": ("stjax.models.recurrent:ConvLSTM", {}),
    "predrnn": ("stjax.models.recurrent:PredRNN", {}),
    "predrnnpp": ("stjax.models.recurrent:PredRNNpp", {}),
    "predrnnv2": ("stjax.models.recurrent:PredRNNv2", {}),
    "mim": ("stjax.models.recurrent:MIM", {}),
    "mau": ("stjax.models.recurrent:MAU", {}),
    "e3dlstm": ("stjax.models.recurrent:E3DLSTM", {}),
    "swinlstm": ("stjax.models.recurrent:SwinLSTM", {}),
    "swinlstm_b": ("stjax.models.recurrent:SwinLSTMB", {}),
    "phydnet": ("stjax.models.recurrent:PhyDNet", {}),
    "c2d_r50": ("stjax.models.resnet3d:ResNet3D", {}),
    "c2d_r101": ("stjax.models.resnet3d:ResNet3D", {"depth": 101}),
    "i3d_r50": ("stjax.models.resnet3d:ResNet3D", {"inflated": "3x1x1"}),
    "i3d_r101": (
        "stjax.models.resnet3d:ResNet3D",
        {"depth": 101, "inflated": "3x1x1"},
    ),
    "uniformer_s": ("stjax.models.uniformer:UniFormer", {}),
    "uniformer_b": (
        "stjax.models.uniformer:UniFormer",
        {"depth": (5, 8, 20, 7), "drop_path_rate": 0.3},
    ),
}


def list_models() -> list[str]:
    """The names that `create_model` knows."""
    return sorted(MODELS)


def create_model(name: str, **fields) -> nn.Module:
    """A model by its name.

    Args:
      name: one of `list_models()`.
      **fields: of the model's class, see its docstring.

    Returns:
      A Flax Linen module. A predictor maps [B, T_in, H, W, C_in] to [B, T_out, H, W,
      C_out]: ``model.apply(variables, x, frames=T_out, train=False)``.

    Raises:
      UserError: for an unknown name or field; the message names the nearest.

    Example:
      >>> model = create_model("tau", hid_s=64, hid_t=512, n_s=4, n_t=8)
    """
    cls, preset = model_class(name)
    known = model_fields(name)
    for field in fields:
        if field not in known:
            raise unknown(f"field of model {name!r}", field, known)
    return cls(**{**preset, **fields})


def model_class(name: str) -> tuple[type[nn.Module], dict]:
    """The class behind a model name, and the fields that the name sets."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    where, preset = MODELS[name]
    module, _, cls = where.partition(":")
    return getattr(importlib.import_module(module), cls), preset


def model_fields(name: str) -> dict[str, object]:
    """Field names of a model and their defaults."""
    cls, preset = model_class(name)
    fields = {
        f.name: f.default
        for f in dataclasses.fields(cls)
        if f.name not in ("parent", "name")
    }
    return {**fields, **preset}
