"""Reads checkpoint files without PyTorch and without running their code.

A pickle may name any function to call. Here it gets tensors, containers and numpy
arrays; every other class becomes an inert placeholder.
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from stjax.errors import UserError

_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_WRAPPERS = ("state_dict", "model_state", "model", "module", "blobs")


def read_file(path: str | Path) -> dict[str, np.ndarray]:
    """The state dict in a checkpoint file.

    Args:
      path: ``.safetensors``, or ``.pth .pt .pyth .ckpt .pkl`` as PyTorch, Lightning or
        Caffe2 write them. What wraps the state dict (optimizer, epoch …) is left out.

    Returns:
      Key names, as stored, to arrays.

    Raises:
      UserError: if the file is missing, truncated or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such checkpoint file: {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        tree = read_pickle(path)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} is not a readable checkpoint ({type(error).__name__}: {error}); "
            "is the download complete?"
        ) from error
    return _state_dict(tree, path)


def _state_dict(tree: object, path: Path) -> dict[str, np.ndarray]:
    for name in _WRAPPERS:
        if isinstance(tree, Mapping) and isinstance(tree.get(name), Mapping):
            tree = tree[name]
    if isinstance(tree, Mapping):
        tensors = {
            str(k): np.array(v) for k, v in tree.items() if isinstance(v, np.ndarray)
        }
        if tensors:
            return tensors
    raise UserError(f"{path} holds no state dict (a mapping from names to tensors)")


def read_pickle(path: Path) -> object:
    """The object in a PyTorch or plain pickle file, tensors as numpy arrays."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_zip(archive)
    with path.open("rb") as file:
        first = _Unpickler(file).load()
        if first == _LEGACY_MAGIC:
            return _read_legacy(file)
        return first


def _read_zip(archive: zipfile.ZipFile) -> object:
    """The format of PyTorch >= 1.6: data.pkl beside one file a storage."""
    names = archive.namelist()
    (index,) = [n for n in names if n.rsplit("/", 1)[-1] == "data.pkl"]
    root = index.removesuffix("data.pkl")
    order = archive.read(root + "byteorder") if root + "byteorder" in names else b""
    storages = {}

    def storage(dtype, key, size):
        if key not in storages:
            raw = np.frombuffer(archive.read(f"{root}data/{key}"), dtype)
            storages[key] = raw.byteswap() if order == b"big" else raw
        return storages[key]

    return _Unpickler(io.BytesIO(archive.read(index)), storage).load()


def _read_legacy(file: io.BufferedReader) -> object:
    """The format before: header, object, then the storages one after another."""
    _Unpickler(file).load()  # protocol version
    _Unpickler(file).load()  # byte order and type sizes
    storages = {}

    def storage(dtype, key, size):
        if key not in storages:
            storages[key] = np.zeros(size, dtype)
        return storages[key]

    tree = _Unpickler(file, storage).load()
    for key in _Unpickler(file).load():
        size = int(np.frombuffer(file.read(8), "<i8")[0])
        target = storages[key]
        if size != target.size:
            raise ValueError(f"storage {key} has {size} values, not {target.size}")
        target[:] = np.frombuffer(file.read(size * target.itemsize), target.dtype)
    return tree


def _tensor(storage, offset, size, stride, *_):
    """torch._utils._rebuild_tensor_v2, with its bounds checked."""
    reach = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if min(size, default=1) > 0 and not 0 <= reach < storage.size:
        raise ValueError("a tensor reaches beyond its storage")
    strides = tuple(s * storage.itemsize for s in stride)
    # A view: the old format reads the storages after the tensors.
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides)


def _parameter(data, *_):
    return data


class _Placeholder:
    """Stands for an object of a class that is not loaded."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    # Containers are filled after creation; their content is dropped.
    def append(self, item):
        pass

    def extend(self, items):
        pass

    def __setitem__(self, key, value):
        pass

    def __hash__(self):
        return id(self)


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): tuple,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "slice"): slice,
    ("builtins", "complex"): complex,
    ("_codecs", "encode"): lambda text, codec: text.encode(codec),
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = np._core.multiarray._reconstruct
    _ALLOWED[_module, "scalar"] = np._core.multiarray.scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _ALLOWED[_module, "_frombuffer"] = np._core.numeric._frombuffer


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, storage=None):
        # latin1: numpy arrays that Python 2 pickled (Caffe2, PredNet).
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module, name):
        if module.replace("__builtin__", "builtins") == "builtins":
            module = "builtins"
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        return _ALLOWED.get((module, name)) or type(name, (_Placeholder,), {})

    def persistent_load(self, pid):
        kind, dtype, key, _, size, *_ = pid
        if kind != "storage" or self._storage is None:
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return self._storage(dtype, key, size)
