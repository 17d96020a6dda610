"""Readers: random access to the frames of sequences; here those of image files.

A reader has ``names`` and ``lengths`` (one for each sequence), ``sizes`` ((H, W) of
each), ``channels`` (names), ``dtype``, ``units`` and ``skipped`` (files left out), and
``read(sequence, frames, process) -> [T, H, W, C]``. Readers open files when they need
them, so that they pickle; no reader holds a whole data set in memory.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from absl import logging
from PIL import Image

from stjax.errors import UserError

Process = Callable[[np.ndarray], np.ndarray]
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")


# What to do about a file that opens, but fails in the middle.
LATE = "repair or remove it, or set data.bad=replace"


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

    def add(self, name: str | Path, reason: object, what: str = "cannot read") -> None:
        """Notes one unreadable (or unusable) file.

        Raises:
          UserError: unless skipping was asked for.
        """
        reason = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        if not self.allowed:
            raise UserError(
                f"{what} {name}: {reason}; repair or remove it, or set"
                " data.skip_unreadable=True"
            )
        self.names.append(str(name))

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
                raise UserError(f"cannot read {path}: {error}; {LATE}") from error
            if image.shape[-1] != len(self.channels):
                image = np.repeat(image, 3, -1)
            images.append(image)
        return process(np.stack(images))
