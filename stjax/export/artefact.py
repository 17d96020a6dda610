"""An exported program as a `Predictor` or `Recogniser`."""

import dataclasses
import json
import zipfile

import flax
import jax
import numpy as np
from etils import epath
from jax import export

from stjax.data.base import LabelSpec, spec_from_dict
from stjax.errors import UserError
from stjax.export.program import FORMAT, checksum, need_flatbuffers, nested
from stjax.prediction import Predictor
from stjax.recognition import Recogniser


class _Predictor(Predictor):
    program = True

    def _forward(self, variables, x, unit, frames):
        y = self._programs[str(x.dtype)].call(_flat(variables), x)
        if frames > y.shape[1]:
            raise UserError(
                f"this program predicts {y.shape[1]} frames, not {frames}; export it"
                f" with frames={frames}"
            )
        return y[:, :frames]


class _Recogniser(Recogniser):
    program = True

    def _forward(self, variables, x):
        x = x / 255 if x.dtype == np.float32 else x
        return self._programs[str(x.dtype)].call(_flat(variables), x)["logits"]


def read_program(path: str | epath.Path) -> Predictor | Recogniser:
    """Loads what `stjax.export.to_program` wrote.

    Raises:
      UserError: the file is damaged, of a newer stjax, not for this kind of device, or
        beyond what this version of JAX can read.
    """
    from stjax.loading import evaluation_views  # which imports this module

    need_flatbuffers()
    path = epath.Path(path)
    metadata, arrays = _read(path)
    _check(path, metadata, arrays)
    programs = {}
    for dtype in metadata["inputs"]:
        content = bytearray(arrays[f"program/{dtype}"].tobytes())
        try:
            programs[dtype] = export.deserialize(content)
        except Exception as error:  # Whatever flatbuffers or MLIR say.
            written, here = metadata["versions"]["jax"], jax.__version__
            raise UserError(
                f"{path} was written with JAX {written}, and JAX {here} cannot read it"
                f" ({' '.join(str(error).split())[:100]}); export it anew"
            ) from error
    spec = spec_from_dict(metadata["clips"])
    model = dataclasses.make_dataclass(metadata["model"], ())()
    weights = nested({name: arrays[name] for name in metadata["weights"]})
    source = f"program {path}"
    if isinstance(spec, LabelSpec):
        data = metadata["data"]
        views = evaluation_views(data) if data and len(spec.channels) == 3 else None
        function = _Recogniser(model, weights, spec, source=source, views=views)
    else:
        nan = metadata["nan"]
        function = _Predictor(model, weights, spec, source=source, nan=nan)
    function._programs = programs
    return function


def _flat(variables: dict) -> dict:
    return flax.traverse_util.flatten_dict(variables, sep=".")


def _read(path: epath.Path) -> tuple[dict, dict[str, np.ndarray]]:
    try:
        with path.open("rb") as file, np.load(file) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{path} is cut off, damaged or no .npz ({error}); copy it again"
        ) from None
    text = arrays.pop("metadata", None)
    try:
        metadata = json.loads(text.tobytes())
        assert metadata["format"] == "stjax-program"
    except (AttributeError, ValueError, TypeError, KeyError, AssertionError):
        raise UserError(f"{path} is no program that stjax exported") from None
    return metadata, arrays


def _check(path: epath.Path, metadata: dict, arrays: dict) -> None:
    version = metadata["format_version"]
    if version > FORMAT:
        raise UserError(
            f"{path} has format {version}, this stjax reads up to {FORMAT};"
            " pip install -U stjax"
        )
    if checksum(arrays) != metadata["sha256"]:
        raise UserError(f"{path} does not have its checksum; copy it again")
    here = export.default_export_platform()
    if here not in metadata["platforms"]:
        known = ", ".join(metadata["platforms"])
        raise UserError(
            f"{path} runs on {known}, not on {here}; export it with platforms={here}"
        )
