"""A model as an ONNX graph, through jax2onnx."""

import functools
import importlib.util
import json

import jax
from etils import epath

from stjax.errors import UserError
from stjax.export.branches import for_platform
from stjax.export.folder import flat_variables
from stjax.export.given import Function, loaded
from stjax.export.program import calls, describe

# Of our implementations those for CUDA are the plainest: one operation each.
_PLATFORM = "cuda"


def to_onnx(
    model: Function | str,
    path: str,
    *,
    frames: int | None = None,
    batch: int | None = None,
) -> epath.Path:
    """Writes an ONNX graph: float32 input ``x``, weights and normalisation inside.

    Pictures come in and go out in [0, 1], other values in their units. Height, width
    and the number of frames are fixed.

    Args:
      model: what `stjax.load` returns, or takes.
      path: of the .onnx; may be remote.
      frames: that a predictor predicts; None for as many as in training.
      batch: clips of a call; None for any number.

    Returns:
      The path.

    Raises:
      UserError: jax2onnx is not installed, or has no ONNX for one of the operations.
    """
    function = loaded(model)
    if not importlib.util.find_spec("jax2onnx"):
        raise UserError("ONNX needs jax2onnx: pip install 'stjax[onnx]'")
    from jax2onnx import to_onnx as converted

    call = calls(function, frames)["float32"]
    weights = flat_variables(function.variables)
    weights = {name: jax.numpy.asarray(value) for name, value in weights.items()}
    forward = for_platform(functools.partial(call, weights), _PLATFORM)
    shape = (batch or "batch", *function.spec.input_shape)
    try:
        graph = converted(forward, [shape], model_name=type(function.model).__name__)
    except Exception as error:  # NotImplementedError, KeyError ...: an operation
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"jax2onnx cannot convert this model ({type(error).__name__}: {why});"
            " batch=1 may do, or export a program"
        ) from error
    for name, value in describe(function).items():
        graph.metadata_props.add(key=f"stjax.{name}", value=json.dumps(value))
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString())
    return path
