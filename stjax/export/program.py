"""A model as one file that JAX alone can run: `jax.export`, weights and metadata.

The file is an ``.npz``. Its arrays are ``metadata`` (JSON, as bytes), ``program/uint8``
and ``program/float32`` (what `jax.export.deserialize` takes; the first only of models
of pictures) and the weights. docs/export.md shows the few lines that call it.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence

import flax
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax import export

from stjax.config import to_dict
from stjax.data.base import LabelSpec
from stjax.errors import UserError
from stjax.export.branches import has_kernels, without_kernels
from stjax.export.folder import flat_variables, public
from stjax.export.given import Function, loaded
from stjax.training.workdir import versions

FORMAT = 1
PLATFORMS = ("cpu", "cuda", "tpu")


def to_program(
    model: Function | str,
    path: str,
    *,
    frames: int | None = None,
    batch: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> epath.Path:
    """Writes a program: ``program.call(weights, x)`` is what the function returns.

    Normalisation happens inside. Height, width and the number of frames are fixed.

    Args:
      model: what `stjax.load` returns, or takes.
      path: of the .npz; may be remote.
      frames: that a predictor predicts; None for as many as in training.
      batch: clips of a call; None for any number.
      platforms: it can be run on, of "cpu", "cuda", "rocm" and "tpu".

    Returns:
      The path.

    Raises:
      UserError: unknown platform, or the model needs a batch of known size.
    """
    need_flatbuffers()
    function = loaded(model)
    path = epath.Path(path)
    if path.suffix != ".npz":
        raise UserError(f"a program is an .npz file; {path} is not called so")
    size = batch or export.symbolic_shape("batch")[0]
    weights = flat_variables(function.variables)
    shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in weights.items()}
    programs, inputs = {}, {}
    for dtype, call in calls(function, frames).items():
        x = jax.ShapeDtypeStruct((size, *function.spec.input_shape), np.dtype(dtype))
        exported = _exported(call, platforms, (shapes, x), batch)
        programs[f"program/{dtype}"] = np.frombuffer(exported.serialize(), np.uint8)
        inputs[dtype] = [batch or "batch", *function.spec.input_shape]
        results = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    arrays = programs | weights
    metadata = describe(function) | {
        "format": "stjax-program",
        "format_version": FORMAT,
        "platforms": list(platforms),
        "inputs": inputs,
        "output": jax.tree.map(_shown, results),
        "call": "jax.export.deserialize(program).call(weights, x)",
        "calling_convention_version": exported.calling_convention_version,
        "weights": list(weights),
        "data": public(to_dict(function.run.config))["data"] if function.run else None,
        "sha256": checksum(arrays),
        "versions": versions(),
    }
    text = np.frombuffer(json.dumps(metadata, indent=2).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, metadata=text, **arrays)
    return path


def calls(function: Function, frames: int | None) -> dict[str, Callable]:
    """The function of (flat weights, x) for each dtype of x."""
    if isinstance(function.spec, LabelSpec):
        return {d: _recognition(function, d) for d in ("uint8", "float32")}
    if frames is not None and frames < 1:
        raise UserError(f"frames={frames}: expected at least 1")
    dtypes = ("uint8", "float32") if function.is_pixels else ("float32",)
    frames = frames or function.spec.t_out
    return {d: _prediction(function, d, frames) for d in dtypes}


def _prediction(function, dtype: str, frames: int) -> Callable:
    unit = 255.0 if function.is_pixels and dtype == "float32" else 1.0

    def predict(weights, x):
        if function.nan == "mask" and dtype == "float32":
            x = jnp.where(jnp.isfinite(x), x, jnp.float32(function.spec.offset) / unit)
        return function._forward(nested(weights), x, unit, frames)

    return predict


def _recognition(function, dtype: str) -> Callable:
    probability = jax.nn.sigmoid if function.spec.multi_label else jax.nn.softmax

    def recognise(weights, x):
        x = x * 255 if dtype == "float32" else x
        logits = function._forward(nested(weights), x)
        return {"probabilities": probability(logits), "logits": logits}

    return recognise


def describe(function: Function) -> dict:
    """What a user of the exported function has to know, for JSON."""
    spec = function.spec
    labelled = isinstance(spec, LabelSpec)
    pixels = labelled or function.is_pixels
    floats = "0 to 1" if pixels else spec.units or "raw units"
    return {
        "task": "recognition" if labelled else "prediction",
        "model": type(function.model).__name__,
        "source": function.source,
        "axes": "batch, time, height, width, channel",
        "channels": list(spec.channels),
        "ranges": {"float32": floats} | ({"uint8": "0 to 255"} if pixels else {}),
        "classes": list(spec.classes) if labelled else None,
        "clips": spec.to_dict(),
        "nan": None if labelled else function.nan,
    }


def nested(weights: dict) -> dict:
    """Variables of a model from its flat weights."""
    return flax.traverse_util.unflatten_dict(weights, sep=".")


def need_flatbuffers() -> None:
    """Raises a `UserError` where the format of programs cannot be used."""
    if not importlib.util.find_spec("flatbuffers"):
        raise UserError("programs need flatbuffers: pip install 'stjax[export]'")


def checksum(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of all bytes, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


def _exported(call, platforms, args, batch) -> export.Exported:
    known = ("cpu", "cuda", "rocm", "tpu")
    for name in platforms:
        if name not in known:
            raise UserError(f"unknown platform {name!r}; there are: {', '.join(known)}")
    try:
        return _lowered(call, platforms, args)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        if batch:
            raise
        line = " ".join(str(error).split())[:200]
        raise UserError(
            f"this model needs to know the size of the batch ({line}); set batch"
        ) from error


def _lowered(call, platforms, args) -> export.Exported:
    """Kernels are left out where the other platforms could not run them."""
    function = jax.jit(call)
    if len(platforms) > 1 and has_kernels(function.trace(*args).jaxpr.jaxpr):
        function = jax.jit(without_kernels(call, *args))
    return export.export(function, platforms=tuple(platforms))(*args)


def _shown(aval) -> dict:
    shape = [d if isinstance(d, int) else str(d) for d in aval.shape]
    return {"shape": shape, "dtype": str(aval.dtype)}
