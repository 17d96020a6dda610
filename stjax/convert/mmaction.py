"""mmaction2's keys of C2D and I3D (open-mmlab/mmaction2, Apache-2.0).

``backbone.layer2.1.conv1.conv.weight`` is ``s3.pathway0_res1.branch2.a.weight``,
``backbone.layer2.1.non_local_block`` is ``s3.pathway0_nonlocal1``. Its models need
``pool_first=False, use_scale=False, stem="mmaction2"``.
"""

import re

import numpy as np

from stjax.convert.family import StateDict

_LAYERS = {"conv1": "branch2.a", "conv2": "branch2.b", "conv3": "branch2.c"}
_LAYERS |= {"downsample": "branch1"}
_BLOCK = re.compile(r"backbone\.layer(\d)\.(\d+)\.(\w+)\.(.*)")
_OURS = re.compile(r"s([2-5])\.pathway0_(res|nonlocal)(\d+)\.(.*)")


def is_mmaction2(state: StateDict) -> bool:
    """Whether the keys are mmaction2's."""
    return "backbone.conv1.conv.weight" in state


def from_mmaction2(state: StateDict) -> StateDict:
    """mmaction2's keys to PySlowFast's."""
    return {_from(key): _squeezed(key, value) for key, value in state.items()}


def to_mmaction2(state: StateDict) -> StateDict:
    """PySlowFast's keys to mmaction2's, as of models with sub-sampling."""
    return {_to(key): _expanded(key, value) for key, value in state.items()}


def _squeezed(key, value):
    """w_f [2 d], a 1x1x1 convolution [1, 2 d, 1, 1, 1] there."""
    return np.reshape(value, -1) if "concat_project" in key else value


def _expanded(key, value):
    return value.reshape(1, -1, 1, 1, 1) if key.endswith(".w_f") else value


def _from(key: str) -> str:
    for old, new in (("backbone.conv1", "s1.pathway0_stem"), ("cls_head.fc_cls", "")):
        if key.startswith(old):
            return (new or "head.projection") + key.removeprefix(old)
    match = _BLOCK.fullmatch(key)
    if match is None:
        return key
    layer, i, part, rest = match.groups()
    stage = f"s{int(layer) + 1}.pathway0_"
    if part in _LAYERS:
        kind, _, leaf = rest.partition(".")
        norm = "_bn" if kind == "bn" else ""
        return f"{stage}res{i}.{_LAYERS[part]}{norm}.{leaf}"
    if part != "non_local_block":
        return key
    rest = re.sub(r"^concat_project\.conv\.weight$", "w_f", rest)
    rest = re.sub(r"^(g|theta|phi|conv_out)(\.0)?\.conv\.", r"conv_\1.", rest)
    rest = rest.replace("conv_conv_out.", "conv_out.").replace("conv_out.bn.", "bn.")
    return f"{stage}nonlocal{i}.{rest}"


def _to(key: str) -> str:
    for old, new in (
        ("s1.pathway0_stem", "backbone.conv1"),
        ("head.projection", "cls_head.fc_cls"),
    ):
        if key.startswith(old):
            return new + key.removeprefix(old)
    stage, kind, i, rest = _OURS.fullmatch(key).groups()
    block = f"backbone.layer{int(stage) - 1}.{i}."
    if kind == "res":
        parts, leaf = rest.rsplit(".", 1)
        layer = "bn" if parts.endswith("_bn") else "conv"
        names = {ours: theirs for theirs, ours in _LAYERS.items()}
        return f"{block}{names[parts.removesuffix('_bn')]}.{layer}.{leaf}"
    rest = re.sub(r"^w_f$", "concat_project.conv.weight", rest)
    rest = re.sub(r"^bn\.", "conv_out.bn.", rest)
    rest = re.sub(r"^conv_out\.(?!bn)", "conv_out.conv.", rest)
    rest = re.sub(r"^conv_theta\.", "theta.conv.", rest)
    rest = re.sub(r"^conv_(g|phi)\.", r"\1.0.conv.", rest)
    return f"{block}non_local_block.{rest}"
