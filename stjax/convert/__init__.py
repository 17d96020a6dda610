"""Weights from and to the PyTorch originals, without PyTorch.

One rule serves all models, because Flax submodules carry the original's names: an
index of a list, ``name.3``, is ``name_3`` here; ``weight`` is ``kernel`` (transposed)
or ``scale``; ``running_mean`` and ``running_var`` are ``mean`` and ``var`` of the
collection 'batch_stats'. What a family adds to the rule stands in its own file.
"""

from stjax.convert.reading import read_file as read_file
from stjax.convert.rules import class_count as class_count
from stjax.convert.rules import from_torch as from_torch
from stjax.convert.rules import input_shape as input_shape
from stjax.convert.rules import to_torch as to_torch

__all__ = ["class_count", "from_torch", "input_shape", "read_file", "to_torch"]
