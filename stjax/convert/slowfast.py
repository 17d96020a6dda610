"""C2D and I3D: PySlowFast, Caffe2, mmaction2, and torchvision's ResNets for images.

Flax names are PySlowFast's (facebookresearch/SlowFast, Apache-2.0); the other projects'
keys are renamed to its. Caffe2's pickles (PySlowFast's model zoo,
facebookresearch/video-nonlocal-net) hold ``blobs``:

=============================  ===================================
Caffe2                         PySlowFast
=============================  ===================================
conv1_w                        s1.pathway0_stem.conv.weight
res_conv1_bn_riv               s1.pathway0_stem.bn.running_var
res4_4_branch2c_w              s4.pathway0_res4.branch2.c.weight
nonlocal_conv3_1_theta_w       s3.pathway0_nonlocal1.conv_theta.weight
pred_w                         head.projection.weight
=============================  ===================================

``riv`` is a variance despite its name. ``s`` and ``b`` of a BN without ``rm`` and
``riv`` are a frozen affine layer: BN with mean 0 and variance 1 - eps.
"""

import re

import flax.linen as nn
import numpy as np

from stjax.convert.family import Family, StateDict
from stjax.convert.mmaction import from_mmaction2, is_mmaction2, to_mmaction2
from stjax.errors import UserError

_BN_EPSILON = 1e-5
_STEM = "s1.pathway0_stem.conv.weight"
_NOT_WEIGHTS = re.compile(r"_momentum$|^(lr|model_iter|current_iter|epoch)$")
_LEAVES = {"w": "weight", "s": "weight", "b": "bias"}
_LEAVES |= {"rm": "running_mean", "riv": "running_var"}
# What stands before the leaf, there and here.
_CAFFE2 = (
    (r"conv1", "s1.pathway0_stem.conv"),
    (r"res_conv1_bn", "s1.pathway0_stem.bn"),
    (r"res(\d)_(\d+)_branch1(_bn)?", r"s\1.pathway0_res\2.branch1\3"),
    (r"res(\d)_(\d+)_branch2([abc])(_bn)?", r"s\1.pathway0_res\2.branch2.\3\4"),
    (r"nonlocal_conv(\d)_(\d+)_bn", r"s\1.pathway0_nonlocal\2.bn"),
    (
        r"nonlocal_conv(\d)_(\d+)_(theta|phi|g|out)",
        r"s\1.pathway0_nonlocal\2.conv_\3",
    ),
    (r"pred", "head.projection"),
)
_TO_CAFFE2 = (
    (r"s1\.pathway0_stem\.conv", "conv1"),
    (r"s1\.pathway0_stem\.bn", "res_conv1_bn"),
    (r"s(\d)\.pathway0_res(\d+)\.branch1(_bn)?", r"res\1_\2_branch1\3"),
    (r"s(\d)\.pathway0_res(\d+)\.branch2\.([abc])(_bn)?", r"res\1_\2_branch2\3\4"),
    (r"s(\d)\.pathway0_nonlocal(\d+)\.(?:conv_)?(\w+)", r"nonlocal_conv\1_\2_\3"),
    (r"head\.projection", "pred"),
)
_IMAGE = (
    (r"conv1", "s1.pathway0_stem.conv"),
    (r"bn1", "s1.pathway0_stem.bn"),
    (r"downsample\.0", "branch1"),
    (r"downsample\.1", "branch1_bn"),
    (r"fc", "head.projection"),
)


def from_caffe2(state: StateDict) -> StateDict:
    """Caffe2's blobs to PySlowFast's keys; solver state is left out."""
    found = {}
    for key, value in state.items():
        if not _NOT_WEIGHTS.search(key):
            stem, _, leaf = key.rpartition("_")
            name = _renamed(stem, _CAFFE2)
            known = name and leaf in _LEAVES
            found[f"{name}.{_LEAVES[leaf]}" if known else key] = np.asarray(value)
    if not any(key.endswith("running_var") for key in found):
        found |= _statistics(found)
    return found


def to_caffe2(state: StateDict) -> StateDict:
    """PySlowFast's keys to Caffe2's blobs."""
    found = {}
    for key, value in state.items():
        name, leaf = key.rsplit(".", 1)
        if leaf == "num_batches_tracked":
            continue
        short = {"bias": "b", "running_mean": "rm", "running_var": "riv"}
        norm = name.endswith("bn")
        renamed = _renamed(name, _TO_CAFFE2)
        if renamed is None or leaf not in (*short, "weight"):
            raise UserError(f"Caffe2's models have nothing like {key}")
        found[f"{renamed}_{short.get(leaf, 's' if norm else 'w')}"] = value
    return found


def from_image(state: StateDict) -> StateDict:
    """Keys of torchvision's ResNet to PySlowFast's."""
    found = {}
    for key, value in state.items():
        name, _, leaf = key.rpartition(".")
        match = re.fullmatch(r"layer(\d)\.(\d+)\.(.*)", name)
        if match:
            layer, i, part = match.groups()
            inside = re.fullmatch(r"(conv|bn)([123])", part)
            if inside:
                letter = "abc"[int(inside[2]) - 1]
                part = f"branch2.{letter}" + ("_bn" if inside[1] == "bn" else "")
            else:
                part = _renamed(part, _IMAGE) or part
            name = f"s{int(layer) + 1}.pathway0_res{i}.{part}"
        else:
            name = _renamed(name, _IMAGE) or name
        found[f"{name}.{leaf}"] = value
    return found


def _adapt(state: StateDict) -> StateDict:
    if is_mmaction2(state):
        return from_mmaction2(state)
    if "conv1_w" in state:
        return from_caffe2(state)
    return from_image(state) if "layer1.0.conv1.weight" in state else state


def _renamed(name: str, table: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, replacement in table:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement)
    return None


def _statistics(state: StateDict) -> StateDict:
    """Running statistics that make a BN the affine layer of its scale and bias."""
    found = {}
    for key, value in state.items():
        name, _, leaf = key.rpartition(".")
        if leaf == "weight" and name.endswith("bn"):
            found[f"{name}.running_mean"] = np.zeros_like(value)
            found[f"{name}.running_var"] = np.full_like(value, 1 - _BN_EPSILON)
    return found


def _input_shape(model: nn.Module, state: StateDict) -> tuple[int, int, int, int]:
    if _STEM not in state:
        raise UserError(
            "not a checkpoint of PySlowFast, Caffe2, mmaction2 or torchvision: it has "
            f"no {_STEM}, conv1_w, backbone.conv1.conv.weight or layer1.0.conv1.weight"
        )
    # No weight depends on it.
    side = 32 * max(2, model.pool)
    return 16 * model.temporal_groups, side, side, state[_STEM].shape[1]


FAMILY = Family(
    input_shape=_input_shape,
    adapt=_adapt,
    head="head.projection.weight",
    projects={"mmaction2": to_mmaction2, "caffe2": to_caffe2},
    optional=r"\.pathway0_nonlocal\d+\.",
)
