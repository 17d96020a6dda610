"""Networks with fusion units: the original's DenseNet, and torchvision's for images.

Names of `stjax.models.densenet3d` are those of the original's state dict: 1093 keys;
in a checkpoint with gates 1216, which are left out (``p_logit``, drop logits, and
``unif_noise_variable``, the draws of a selection), for they say nothing without the
search's own file. Weights of images, to be inflated, are torchvision's; every path of a
unit starts from the same kernel, as in the original, so that S+ST begins with twice the
activations and the running statistics have to be measured again.
"""

import re

import flax.linen as nn

from stjax.convert.family import Family, StateDict
from stjax.errors import UserError

_GATES = r"\.num_batches_tracked$|\.p_logit$|\.unif_noise_variable$"
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_MOBILE = (
    (r"features\.0\.0\.", "stem.conv."),
    (r"features\.0\.1\.", "stem.norm."),
    (r"features\.[1-9]\d*\.0\.", "top.conv."),
    (r"features\.[1-9]\d*\.1\.", "top.norm."),
    # The first block has no expansion, so its numbers are one less.
    (r"features\.1\.conv\.0\.0\.", "block0.depthwise.conv."),
    (r"features\.1\.conv\.0\.1\.", "block0.depthwise.norm."),
    (r"features\.1\.conv\.1\.", "block0.project.conv."),
    (r"features\.1\.conv\.2\.", "block0.project.norm."),
    (r"features\.(\d+)\.conv\.0\.0\.", "block{}.expand.conv."),
    (r"features\.(\d+)\.conv\.0\.1\.", "block{}.expand.norm."),
    (r"features\.(\d+)\.conv\.1\.0\.", "block{}.depthwise.conv."),
    (r"features\.(\d+)\.conv\.1\.1\.", "block{}.depthwise.norm."),
    (r"features\.(\d+)\.conv\.2\.", "block{}.project.conv."),
    (r"features\.(\d+)\.conv\.3\.", "block{}.project.norm."),
    (r"classifier\.1\.", "classifier."),
)


def _dense(state: StateDict) -> StateDict:
    """torchvision's files of DenseNets have ``norm.1`` where its models have norm1."""
    return {_OLD_DENSE.sub(r"\1\2.", key): value for key, value in state.items()}


def _mobile(state: StateDict) -> StateDict:
    """torchvision's MobileNetV2 to our keys."""
    if "features.0.0.weight" not in state:
        return state
    return {_mobile_key(key): value for key, value in state.items()}


def _mobile_key(key: str) -> str:
    for pattern, new in _MOBILE:
        match = re.match(pattern, key)
        if match:
            number = int(match[1]) - 1 if match.groups() else None
            return new.format(number) + key[match.end() :]
    return key


def _shape(stem: str):
    """A shape of clips that suits the weights, told by the stem's."""

    def input_shape(model: nn.Module, state: StateDict) -> tuple[int, int, int, int]:
        if stem not in state:
            raise UserError(
                f"not a checkpoint of {type(model).__name__} or of the same network for"
                f" images: it has no {stem}"
            )
        return 8, 32, 32, state[stem].shape[1]  # no weight depends on frames and sides

    return input_shape


DENSENET = Family(
    input_shape=_shape("features.conv0.weight"),
    ignored=_GATES,
    adapt=_dense,
    head="classifier.weight",
    inherited=(r"\.(bottleneck|temporal|spatial|original)\.", "."),
)
RESNET = Family(
    input_shape=_shape("conv1.weight"),
    head="fc.weight",
    inherited=(r"\.conv1_t\.", ".conv1."),
)
MOBILENET = Family(
    input_shape=_shape("stem.conv.weight"),
    adapt=_mobile,
    head="classifier.weight",
    inherited=(r"\.temporal\.", ".expand."),
)
FAMILIES = {
    "DenseNet3D": DENSENET,
    "FusionResNet": RESNET,
    "FusionMobileNetV2": MOBILENET,
}
