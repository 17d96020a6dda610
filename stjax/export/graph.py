"""A model as an ONNX graph, through jax2onnx."""

import functools
import importlib.util
import json
import logging

import jax
import jax.numpy as jnp
from etils import epath
from jax import export, lax

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
    forward = for_platform(
        functools.partial(call, weights),
        _PLATFORM,
        x,
        replace={"conv_general_dilated": _convolution, "pad": _pad},
    )
    # Traced once more, before jax2onnx replaces functions of JAX and Flax by its own.
    forward = for_platform(forward, _PLATFORM, x)
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
    for result in graph.graph.output:
        if batch is None:
            result.type.tensor_type.shape.dim[0].dim_param = "batch"
    for name, value in describe(function).items():
        graph.metadata_props.add(key=f"stjax.{name}", value=json.dumps(value))
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString())
    return path


def _convolution(x, w, *, dimension_numbers, **how):
    """`lax.conv_general_dilated`; in 3-D a sum over temporal taps of 2-D ones.

    jax2onnx converts no other. Channels are last, as `stjax.ops.conv` calls it.
    """
    if x.ndim < 5 or set(how["lhs_dilation"]) != {1}:
        return lax.conv_general_dilated(
            x, w, dimension_numbers=dimension_numbers, **_plain(how)
        )
    stride, dilation = how["window_strides"][0], how["rhs_dilation"][0]
    around = (_NONE, (*how["padding"][0], 0), _NONE, _NONE, _NONE)
    x = _pad(x, jnp.zeros((), x.dtype), padding_config=around)
    frames = (x.shape[1] - (w.shape[0] - 1) * dilation - 1) // stride + 1
    flat = {k: v[1:] if k in _SPATIAL else v for k, v in _plain(how).items()}
    total = 0.0
    for i in range(w.shape[0]):
        end = i * dilation + (frames - 1) * stride + 1
        tap = lax.slice_in_dim(x, i * dilation, end, stride, axis=1)
        tap = tap.reshape(x.shape[0] * frames, *tap.shape[2:])
        total += lax.conv_general_dilated(
            tap, w[i], dimension_numbers=("NHWC", "HWIO", "NHWC"), **flat
        )
    return total.reshape(x.shape[0], frames, *total.shape[1:])


def _pad(x, value, *, padding_config):
    """`lax.pad` as a concatenation: jax2onnx's pads no batch of any size."""
    if any(low < 0 or high < 0 or inner for low, high, inner in padding_config):
        return lax.pad(x, value, padding_config)
    for axis, (low, high, _) in enumerate(padding_config):
        sides = [
            jnp.full((*x.shape[:axis], size, *x.shape[axis + 1 :]), value, x.dtype)
            for size in (low, high)
        ]
        parts = [sides[0]] * (low > 0) + [x] + [sides[1]] * (high > 0)
        x = lax.concatenate(parts, axis) if len(parts) > 1 else x
    return x


_NONE = (0, 0, 0)
_SPATIAL = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")


def _plain(how: dict) -> dict:
    """Parameters of the operation that its public function takes."""
    names = (*_SPATIAL, "feature_group_count", "batch_group_count", "precision")
    return {name: how[name] for name in names}
