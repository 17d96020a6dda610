"""Frames in .npy and .npz files, memory-mapped."""

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stjax.data.reading import Process, Skips, default_channels
from stjax.errors import UserError


# Layouts of an array: the letters of N (sequences), T, H, W, C in their order.
def _layout(shape: tuple[int, ...], layout: str | None, name: str) -> str:
    if layout is None:
        layout = {5: "NTHWC", 3: "THW", 4: "THWC" if shape[-1] <= 4 else "NTHW"}.get(
            len(shape), ""
        )
    ok = len(set(layout)) == len(layout) == len(shape)
    if not ok or not set("THW") <= set(layout) <= set("NTHWC"):
        raise UserError(
            f"{name} has shape {shape}, data.layout {layout!r} does not fit: expected"
            " [N,T,H,W,C], [N,T,H,W], [T,H,W,C] or [T,H,W], or its letters in"
            " data.layout, such as 'NTCHW'"
        )
    return layout


def canonical(array: np.ndarray, layout: str) -> np.ndarray:
    """A view as [N, T, H, W, C]."""
    for axis, letter in ((0, "N"), (len(layout), "C")):
        if letter not in layout:
            array = np.expand_dims(array, axis if axis == 0 else array.ndim)
            layout = letter + layout if axis == 0 else layout + letter
    return array.transpose([layout.index(letter) for letter in "NTHWC"])


def open_array(path: str | Path, variable: str | None = None) -> np.ndarray:
    """An .npy, or one array of an .npz, memory-mapped.

    A compressed .npz is unpacked into the folder for temporary files, once.

    Raises:
      UserError: if the .npz does not have the variable, or more than one and none is
        named.
    """
    if str(path).endswith(".npy"):
        return np.load(path, mmap_mode="r", allow_pickle=False)
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise OSError(str(error)) from error
    with archive:
        names = [n.removesuffix(".npy") for n in archive.namelist()]
        if variable is None and len(names) == 1:
            variable = names[0]
        if variable not in names:
            got = "data.variable is not set" if variable is None else repr(variable)
            raise UserError(f"{path}: {got}; it has: {', '.join(names)}")
        member = archive.getinfo(f"{variable}.npy")
        if member.compress_type == zipfile.ZIP_STORED:
            return _map_member(path, member)
        return np.load(_unpack(path, archive, member), "r", allow_pickle=False)


def _unpack(path: str | Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo):
    """Where the array lies unpacked: the worker processes share the one file."""
    stat = os.stat(path)
    state = (os.path.abspath(path), stat.st_mtime_ns, stat.st_size, os.getuid())
    key = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir(), f"stjax-{key}")
    out = folder / member.filename
    if not out.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        part = out.with_suffix(f".{os.getpid()}")
        with archive.open(member) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        part.replace(out)
    return out


def _map_member(path: str | Path, member: zipfile.ZipInfo) -> np.ndarray:
    """An uncompressed .npy inside a zip file, memory-mapped where it lies."""
    with open(path, "rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), "<u2").tolist()
        file.seek(member.header_offset + 30 + name + extra)
        version = np.lib.format.read_magic(file)
        read = {1: "read_array_header_1_0", 2: "read_array_header_2_0"}[version[0]]
        shape, fortran, dtype = getattr(np.lib.format, read)(file)
        offset = file.tell()
    order = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset, shape, order)


class ArrayReader:
    """.npy and .npz files: one sequence each, or [N, ...] sequences in each."""

    def __init__(
        self,
        paths: Sequence[Path],
        skips: Skips,
        variable: str | None = None,
        layout: str | None = None,
    ):
        self._variable = variable
        self._entries: list[tuple[Path, str, int]] = []
        self.lengths, self.sizes, kinds = [], [], set()
        for path in paths:
            try:
                array = open_array(path, variable)
            except UserError:
                raise
            except Exception as error:  # numpy and zipfile raise many kinds
                skips.add(path, error)
                continue
            order = _layout(array.shape, layout, str(path))
            n, t, h, w, c = canonical(array, order).shape
            self._entries += [(path, order, k) for k in range(n)]
            self.lengths += [t] * n
            self.sizes += [(h, w)] * n
            kinds.add((c, "uint8" if array.dtype == np.uint8 else "float32"))
        if len(kinds) > 1:
            raise UserError(
                f"{paths[0].parent}: files differ in (channels, dtype):"
                f" {sorted(kinds)}; bring them to one kind"
            )
        self.names = [f"{path}[{k}]" for path, _, k in self._entries]
        count, self.dtype = kinds.pop() if kinds else (1, "uint8")
        self.channels = default_channels(count)
        self.units = ""
        self.skipped = skips.names
        self._open: dict[Path, np.ndarray] = {}

    def __getstate__(self):
        return {**self.__dict__, "_open": {}}  # each process maps the files itself

    def read(self, sequence: int, frames: range, process: Process) -> np.ndarray:
        """[len(frames), H, W, C], after ``process``."""
        path, layout, k = self._entries[sequence]
        if path not in self._open:
            self._open[path] = open_array(path, self._variable)
        array = canonical(self._open[path], layout)[k]
        part = array[frames.start : frames.stop : frames.step]
        return process(np.array(part, self.dtype))
