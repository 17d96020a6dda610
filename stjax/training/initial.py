"""Starting from weights that are there already (``train.init_from``)."""

import jax
from etils import epath
from flax import linen as nn

from stjax.errors import UserError
from stjax.training.checkpoint import differences, shapes
from stjax.training.workdir import load_run

_FILES = (".safetensors", ".pth", ".pyth", ".pt", ".ckpt", ".pkl")


def initial_variables(path: str, model: nn.Module, abstract: dict) -> dict:
    """Variables for a model from a workdir or from a file of the PyTorch original.

    Args:
      path: a workdir of `stjax.train` (its best checkpoint), or a .safetensors, .pth,
        .pyth, .pt, .ckpt or .pkl file that `stjax.convert` knows.
      model: the model to be trained.
      abstract: shapes of its variables.

    Raises:
      UserError: nothing there, or it does not fit the model.
    """
    if not epath.Path(path).exists():
        raise UserError(f"train.init_from={path!r} does not exist; check the path")
    if path.lower().endswith(_FILES):
        from stjax import convert

        variables = convert.from_torch(model, convert.read_file(path))
    else:
        variables = load_run(path).variables
    found = differences(shapes(variables), shapes(abstract))
    if found:
        raise UserError(
            f"train.init_from={path!r} does not fit the model: {'; '.join(found[:3])}"
        )
    return jax.tree.map(lambda a, v: v.astype(a.dtype), abstract, dict(variables))
