"""A model as an ONNX graph, through jax2onnx."""

import functools
import importlib.util
import json
import logging

import jax
import jax.numpy as jnp
from etils import epath
from jax import export

from stjax.data.base import LabelSpec
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
      UserError: jax2onnx is not installed, or knows no ONNX for an operation.
    """
    function = loaded(model)
    if not importlib.util.find_spec("jax2onnx"):
        raise UserError("ONNX needs jax2onnx: pip install 'stjax[onnx]'")
    from jax2onnx import to_onnx as converted

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it names every shape

    call = calls(function, frames)["float32"]
    weights = flat_variables(function.variables)
    weights = {name: jnp.asarray(value) for name, value in weights.items()}
    size = batch or export.symbolic_shape("batch")[0]
    x = jax.ShapeDtypeStruct((size, *function.spec.input_shape), jnp.float32)
    # Traced before jax2onnx replaces functions of Flax by its own.
    forward = for_platform(functools.partial(call, weights), _PLATFORM, x)
    labelled = isinstance(function.spec, LabelSpec)
    try:
        graph = converted(
            forward,
            [x],
            model_name=type(function.model).__name__,
            input_names=["x"],
            output_names=["logits", "probabilities"] if labelled else ["frames"],
        )
    except Exception as error:  # NotImplementedError, KeyError ...: an operation
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"jax2onnx cannot convert this model ({type(error).__name__}: {why});"
            " export a program instead"
        ) from error
    for name, value in describe(function).items():
        graph.metadata_props.add(key=f"stjax.{name}", value=json.dumps(value))
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString())
    return path
