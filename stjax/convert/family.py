"""What distinguishes one original project from another in conversion."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping

import flax.linen as nn
import numpy as np

from stjax.errors import UserError

StateDict = dict[str, np.ndarray]


def same(state: StateDict) -> StateDict:
    """The state dict as it is."""
    return state


@dataclasses.dataclass(frozen=True)
class Family:
    """Rules of one original project.

    Attributes:
      input_shape: (model, state_dict) -> the (T, H, W, C) of an input that the
        weights fit, enough to trace the model's variables.
      native: names that end in ``_digit`` in the original as well (``proj_1``).
      ignored: regular expression of keys without a counterpart here (counters,
        constant buffers).
      aliases: (pattern, replacement) pairs: a key of ours that matches is stored a
        second time under the replaced name.
      transposed: regular expression of keys of transposed convolutions, stored
        (in, out, kh, kw).
      adapt: brings a state dict of another project with the same model to this
        project's keys and layouts; recognises it by its keys.
      head: of a classifier, the key of the weight [classes, ...] of its last layer.
      projects: of other projects with the same model, what brings a state dict to
        their keys; the inverse of `adapt`.
      optional: regular expression of keys that a sibling may lack, see
        `stjax.convert.inflate`.
      inherited: (pattern, replacement): a key that a sibling lacks has the weights of
        the one with this replaced, if there is one.
    """

    input_shape: Callable[[nn.Module, StateDict], tuple[int, int, int, int]]
    native: frozenset[str] = frozenset()
    ignored: str = r"\.num_batches_tracked$"
    aliases: tuple[tuple[str, str], ...] = ()
    transposed: str = r"(?!)"
    adapt: Callable[[StateDict], StateDict] = same
    head: str | None = None
    projects: Mapping[str, Callable[[StateDict], StateDict]] = dataclasses.field(
        default_factory=dict
    )
    optional: str = r"(?!)"
    inherited: tuple[str, str] | None = None


# Module that defines a model -> module with its FAMILY (or FAMILIES by class).
_WHERE = {
    "stjax.models.simvp": "stjax.convert.openstl",
    "stjax.models.recurrent": "stjax.convert.recurrent",
    "stjax.models.predformer": "stjax.convert.predformer",
    "stjax.models.resnet3d": "stjax.convert.slowfast",
    "stjax.models.uniformer": "stjax.convert.uniformer",
    "stjax.models.densenet3d": "stjax.convert.fusion",
    "stjax.models.fusion_resnet": "stjax.convert.fusion",
    "stjax.models.fusion_mobilenet": "stjax.convert.fusion",
}


def family_of(model: nn.Module) -> Family:
    """The family of a model.

    Raises:
      UserError: if the model has no original to convert from.
    """
    where = type(model).__module__
    for prefix, module in _WHERE.items():
        if where == prefix or where.startswith(prefix + "."):
            found = importlib.import_module(module)
            by_class = getattr(found, "FAMILIES", {})
            return by_class.get(type(model).__name__) or found.FAMILY
    raise UserError(f"no conversion from PyTorch is known for {type(model).__name__}")
