"""Arrays and lists of words in hickle files, read as the HDF5 files that they are.

Hickle 1 keeps its object in ``data``, 2 and 3 in ``data_0`` (a list is a group of
``data_0``, ``data_1``, ...), 4 and 5 in ``data`` (``data0``, ``data1``, ...).
"""

from pathlib import Path

import numpy as np

from stjax.data.reading import natural
from stjax.errors import UserError


def open_hickle(path: Path):
    """The h5py file, and the node in it that holds the object.

    Raises:
      UserError: if it cannot be read.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(".hkl files need h5py: pip install 'stjax[grids]'") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    node = next((file[name] for name in ("data", "data_0") if name in file), None)
    if node is None:
        keys = ", ".join(file) or "nothing"
        file.close()
        raise UserError(f"{path} is not a hickle file: it holds {keys}")
    return file, node


def hickle_array(path: Path):
    """An h5py dataset [N, ...] whose values stay on disk; it keeps its file open."""
    _, node = open_hickle(path)
    if not hasattr(node, "shape"):
        raise UserError(f"{path} holds a group, expected one array")
    return node


def hickle_words(path: Path) -> list[str]:
    """A list or array of words."""
    file, node = open_hickle(path)
    with file:
        return _words(node)


def _words(node) -> list[str]:
    if not hasattr(node, "shape"):  # a group
        return [w for name in sorted(node, key=natural) for w in _words(node[name])]
    value = node[()]
    if isinstance(value, np.ndarray) and value.dtype.itemsize == 1:
        value = value.tobytes()  # one word, byte by byte (hickle 4 and 5)
    items = value.ravel().tolist() if isinstance(value, np.ndarray) else [value]
    return [w.decode() if isinstance(w, bytes) else str(w) for w in items]
