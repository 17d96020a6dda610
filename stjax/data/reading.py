"""Readers: random access to frames of sequences in arrays and in image files.

A reader has ``names`` and ``lengths`` (one for each sequence), ``sizes`` ((H, W) of
each), ``channels`` (names), ``dtype``, ``units`` and ``skipped`` (files left out), and
``read(sequence, frames, process) -> [T, H, W, C]``. Readers open files when they need
them, so that they pickle; no reader holds a whole data set in memory.
"""

import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from absl import logging
from PIL import Image

from stjax.errors import UserError

Process = Callable[[np.ndarray], np.ndarray]
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")


class Reader(Protocol):
    """Random access to the frames of some sequences."""

    names: Sequence[str]
    lengths: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    channels: tuple[str, ...]
    dtype: str
    units: str
    skipped: list[str]

    def read(self, sequence: int, frames: range, process: Process) -> np.ndarray:
        """[len(frames), H, W, C], after ``process``."""


class Skips:
    """What could not be read: an error, or (when asked for) counted and named."""

    def __init__(self, allowed: bool):
        self.allowed = allowed
        self.names: list[str] = []

    def add(self, name: str | Path, reason: object) -> None:
        """Notes one unreadable file.

        Raises:
          UserError: unless skipping was asked for.
        """
        reason = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        if not self.allowed:
            raise UserError(
                f"cannot read {name}: {reason}; repair or remove it, or set"
                " data.skip_unreadable=True"
            )
        self.names.append(str(name))

    def replaced(self, error: UserError) -> None:
        """Notes a clip that failed late, once, and lets another one take its place.

        Raises:
          UserError: the error, unless skipping was asked for.
        """
        if not self.allowed:
            raise error
        if str(error) not in self.names:
            self.names.append(str(error))
            logging.warning("replaced a clip: %s", error)

    def report(self) -> None:
        """Warns once, with the count and the first names."""
        if self.names:
            more = ", ..." if len(self.names) > 5 else ""
            names = ", ".join(self.names[:5]) + more
            logging.warning("skipped %d unreadable: %s", len(self.names), names)


def natural(path: str | Path) -> list:
    """Sort key: ``frame_2`` before ``frame_10``."""
    parts = re.split(r"(\d+)", str(path))
    return [int(p) if p.isdigit() else p for p in parts]


def existing(path: str | Path, what: str) -> Path:
    """The path, if it is there.

    Raises:
      UserError: if nothing is there.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"{what} {path} does not exist; set data.path")
    return path


def default_channels(n: int) -> tuple[str, ...]:
    """Names for n channels: grey, rgb, or c0, c1, ..."""
    named = {1: ("grey",), 3: ("red", "green", "blue")}
    return named.get(n) or tuple(f"c{k}" for k in range(n))


def open_image(path: str | Path) -> np.ndarray:
    """One image file as uint8 [H, W, 1 or 3].

    Raises:
      OSError: if it cannot be read.
    """
    with Image.open(path) as image:
        grey = image.mode in ("1", "L", "LA", "I;16", "I", "F")
        pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


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
    """An .npy, or one array of an .npz, memory-mapped (not if it is compressed).

    Raises:
      UserError: if the .npz does not have the variable, or more than one and none is
        named.
    """
    if str(path).endswith(".npy"):
        return np.load(path, mmap_mode="r", allow_pickle=False)
    with np.load(path, allow_pickle=False) as file:
        names = list(file)
        if variable is None and len(names) == 1:
            variable = names[0]
        if variable not in names:
            got = "data.variable is not set" if variable is None else repr(variable)
            raise UserError(f"{path}: {got}; it has: {', '.join(names)}")
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{variable}.npy")
        if member.compress_type == zipfile.ZIP_STORED:
            return _map_member(path, member)
        with archive.open(member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)


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


class ImageReader:
    """Folders of image files, one sequence each, frames in natural order.

    Where an unreadable file is skipped, the sequence ends, and another one begins
    behind it: a window never has a hole.
    """

    def __init__(self, folders: Sequence[Path], skips: Skips):
        self._files: list[list[Path]] = []
        self.sizes, grey = [], True
        for folder in folders:
            files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGES]
            run: list[Path] = []
            for path in sorted(files, key=natural):
                try:
                    with Image.open(path) as image:
                        size = image.size[::-1]
                        grey &= image.mode in ("1", "L", "LA", "I;16", "I", "F")
                except OSError as error:
                    skips.add(path, error)
                    run = []
                    continue
                if not run:
                    self._files.append(run)
                    self.sizes.append(size)
                run.append(path)
                if size != self.sizes[-1]:
                    raise UserError(
                        f"mixed frame sizes in {folder}: {run[0].name} is"
                        f" {self.sizes[-1][0]}x{self.sizes[-1][1]}, {path.name} is"
                        f" {size[0]}x{size[1]}; one clip needs one size"
                    )
        self.names = [str(run[0].parent) for run in self._files]
        self.lengths = [len(run) for run in self._files]
        self.channels = default_channels(1 if grey else 3)
        self.dtype, self.units, self.skipped = "uint8", "", skips.names

    def read(self, sequence: int, frames: range, process: Process) -> np.ndarray:
        """[len(frames), H, W, C], after ``process``."""
        images = []
        for k in frames:
            path = self._files[sequence][k]
            try:
                image = open_image(path)
            except OSError as error:
                raise UserError(f"cannot read {path}: {error}") from error
            if image.shape[-1] != len(self.channels):
                image = np.repeat(image, 3, -1)
            images.append(image)
        return process(np.stack(images))
