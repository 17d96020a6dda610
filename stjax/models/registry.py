"""The one table of model names."""

import dataclasses
import importlib

import flax.linen as nn

from stjax.errors import UserError, unknown

# Name -> (where the class is, fields that the name stands for).
MODELS: dict[str, tuple[str, dict]] = {
    "simvp": ("stjax.models.simvp:SimVP", {"translator": "gsta"}),
    "tau": ("stjax.models.simvp:SimVP", {"translator": "tau"}),
    "simvp_mixed": ("stjax.models.simvp_mixed:MixedSimVP", {}),
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
    "fusion_toy": ("stjax.models.fusion_toy:FusionToy", {}),
    "uniformer_mixed": ("stjax.models.uniformer:UniFormer", {"units": "all"}),
    "densenet121_3d": ("stjax.models.densenet3d:DenseNet3D", {}),
    "fusion_resnet50": ("stjax.models.fusion_resnet:FusionResNet", {}),
    "fusion_resnext50": (
        "stjax.models.fusion_resnet:FusionResNet",
        {"groups": 32, "group_width": 4},
    ),
    "fusion_resnext101": (
        "stjax.models.fusion_resnet:FusionResNet",
        {"blocks": (3, 4, 23, 3), "groups": 32, "group_width": 8},
    ),
    "fusion_mobilenetv2": ("stjax.models.fusion_mobilenet:FusionMobileNetV2", {}),
    "linear_probe": ("stjax.models.probe:LinearProbe", {}),
    "attentive_probe": ("stjax.models.probe:AttentiveProbe", {}),
}


def list_models() -> list[str]:
    """The names that `create_model` knows."""
    return sorted(MODELS)


def create_model(name: str, **fields) -> nn.Module:
    """A model by its name.

    Args:
      name: one of `list_models()`, or ``"package.module:Class"``: a Linen module of
        your own.
      **fields: of the model's class, see its docstring.

    Returns:
      A Flax Linen module. A predictor maps [B, T_in, H, W, C_in] to [B, T_out, H, W,
      C_out]: ``model.apply(variables, x, frames=T_out, train=False)``; a recogniser
      maps [B, T, H, W, C] to logits [B, K]: ``model.apply(variables, x, train=False)``.

    Raises:
      UserError: for an unknown name or field; the message names the nearest. Also for
        a module of your own that cannot be imported, and a field without a value.

    Example:
      >>> model = create_model("tau", hid_s=64, hid_t=512, n_s=4, n_t=8)
    """
    cls, preset = model_class(name)
    known = model_fields(name)
    for field in fields:
        if field not in known:
            raise unknown(f"field of model {name!r}", field, known)
    for field, default in known.items():
        if default is dataclasses.MISSING and field not in fields:
            raise UserError(f"model {name!r} needs model.{field}; set it")
    return cls(**{**preset, **fields})


def model_class(name: str) -> tuple[type[nn.Module], dict]:
    """The class behind a model name, and the fields that the name sets."""
    if ":" in name:
        return _own_class(name), {}
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    where, preset = MODELS[name]
    module, _, cls = where.partition(":")
    return getattr(importlib.import_module(module), cls), preset


def model_fields(name: str) -> dict[str, object]:
    """Field names of a model and their defaults (`dataclasses.MISSING` for none)."""
    cls, preset = model_class(name)
    fields = {}
    for f in dataclasses.fields(cls):
        made = f.default_factory is not dataclasses.MISSING
        fields[f.name] = f.default_factory() if made else f.default
    return {k: v for k, v in fields.items() if k not in ("parent", "name")} | preset


def _own_class(name: str) -> type[nn.Module]:
    """The class ``package.module:Class`` that is not ours."""
    where, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(where)
    except Exception as error:  # whatever the user's module does when it is imported
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(
            f"model.name={name!r}: cannot import {where!r} ({why}); install it, or put"
            " its folder on PYTHONPATH"
        ) from error
    cls = getattr(module, attribute, None)
    if cls is None:
        modules = [k for k, v in vars(module).items() if _is_module(v)]
        raise unknown(f"class in {where}", attribute, modules)
    if not _is_module(cls):
        raise UserError(
            f"model.name={name!r} is {cls!r}, not a subclass of flax.linen.Module;"
            " name one"
        )
    return cls


def _is_module(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)
