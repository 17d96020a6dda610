"""Norpix .seq videos of jpgs, the format of the Caltech pedestrian recordings.

1,024 bytes of header; then each frame: its length in 4 bytes (these included), a jpg,
and a time stamp, after which files differ in some bytes of padding.
"""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

_HEADER = 1024
_JPG = b"\xff\xd8\xff"
# Bytes from the end of a jpg to the next length.
_GAPS = (16, 8, 6, 0, 12, 10, 4, 2)


def index_seq(path: str | Path) -> list[tuple[int, int]]:
    """(position, length) of the jpg of each frame.

    Raises:
      OSError: if it is not such a file.
    """
    frames = []
    with open(path, "rb") as file:
        magic = file.read(4)
        if magic != struct.pack("<I", 0xFEED):
            raise OSError(f"not a Norpix .seq video: it begins with {magic!r}")
        size = file.seek(0, io.SEEK_END)
        position: int | None = _HEADER
        while position is not None and position + 7 < size:
            file.seek(position)
            head = file.read(7)
            length = struct.unpack("<I", head[:4])[0]
            if head[4:] != _JPG:
                raise OSError(f"no jpg where frame {len(frames)} should be")
            if position + length > size:
                break  # the recording was cut: its last frame is not whole
            frames.append((position + 4, length - 4))
            position = _next(file, position + length, size)
    if not frames:
        raise OSError("it has no frames")
    return frames


def _next(file, end: int, size: int) -> int | None:
    for gap in _GAPS:
        if end + gap + 7 <= size:
            file.seek(end + gap + 4)
            if file.read(3) == _JPG:
                return end + gap
    return None


def read_seq(path: str | Path, position: int, length: int) -> np.ndarray:
    """One frame, uint8 rgb [H, W, 3]."""
    with open(path, "rb") as file:
        file.seek(position)
        blob = file.read(length)
    with Image.open(io.BytesIO(blob)) as image:
        return np.asarray(image.convert("RGB"))
