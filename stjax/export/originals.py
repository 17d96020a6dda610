"""Weights for users of the PyTorch originals."""

import importlib.util

import numpy as np
from etils import epath

from stjax import convert
from stjax.errors import UserError
from stjax.export.given import Function, loaded


def to_torch(
    model: Function | str, path: str, *, project: str | None = None
) -> epath.Path:
    """Writes weights under the key names of the original project.

    Args:
      model: what `stjax.load` returns, or takes.
      path: ``.safetensors`` or ``.npz``; with PyTorch installed also ``.pth``, a plain
        state dict (``torch.load(path, weights_only=True)``).
      project: another project that has the model, such as "mmaction2".

    Returns:
      The path.

    Raises:
      UserError: the model has no original, or the file another ending.
    """
    function = loaded(model)
    path = epath.Path(path)
    if path.suffix not in _WRITE:
        raise UserError(
            f"cannot write {path.name!r}; name it .safetensors, .npz or .pth"
        )
    state = convert.to_torch(function.model, function.variables, project)
    state = {k: np.ascontiguousarray(v) for k, v in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    _WRITE[path.suffix](state, path)
    return path


def _safetensors(state: dict, path: epath.Path) -> None:
    from safetensors.numpy import save

    path.write_bytes(save(state, {"format": "pt"}))


def _npz(state: dict, path: epath.Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **state)


def _pth(state: dict, path: epath.Path) -> None:
    if not importlib.util.find_spec("torch"):
        raise UserError(
            "writing .pth needs PyTorch: pip install 'stjax[torch]'; or write"
            " .safetensors, which PyTorch reads too"
        )
    import torch

    with path.open("wb") as file:
        torch.save({k: torch.from_numpy(v.copy()) for k, v in state.items()}, file)


_WRITE = {".safetensors": _safetensors, ".npz": _npz, ".pth": _pth}
