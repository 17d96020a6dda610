"""Finds the files of a data set, and the reader of their format."""

from collections.abc import Sequence
from pathlib import Path

from stjax.data.arrays import ArrayReader
from stjax.data.grids import GRIDS, GridReader, is_zarr
from stjax.data.reading import (
    IMAGES,
    ImageReader,
    Reader,
    Skips,
    existing,
    natural,
)
from stjax.data.video import VIDEOS, VideoReader
from stjax.errors import UserError, unknown

FORMATS = {
    "array": (".npy", ".npz"),
    "video": VIDEOS,
    "images": IMAGES,
    "grid": GRIDS,
}


def find_files(path: str, format: str | None) -> tuple[str, list[Path]]:
    """(format, files or folders of one sequence each) at a path.

    Raises:
      UserError: if there is nothing, or nothing of a known format.
    """
    if format is not None and format not in FORMATS:
        raise unknown("data.format", format, FORMATS)
    root = existing(path, "data.path")
    if root.is_file() or is_zarr(root):
        kind = format or ("grid" if root.is_dir() else _format_of(root))
        if kind is None or kind == "images":
            known = ", ".join(s for f in FORMATS for s in FORMATS[f] if f != "images")
            raise UserError(f"{root}: unknown format; expected a folder or {known}")
        return kind, [root]
    entries = sorted(root.iterdir(), key=natural)
    inner = [p for d in entries if d.is_dir() and d.suffix != ".zarr" for p in _list(d)]
    for kind in [format] if format else ["video", "grid", "array", "images"]:
        paths = [p for p in entries if _format_of(p) == kind]
        if kind == "images" and (paths or inner):
            folders = {p.parent for p in [*paths, *inner] if _format_of(p) == kind}
            paths = sorted(folders, key=natural)
        if paths:
            return kind, paths
    raise UserError(
        f"{root} holds no {format or 'video, image, NetCDF, Zarr or .npy/.npz'} files"
    )


def _list(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.suffix.lower() in IMAGES]


def _format_of(path: Path) -> str | None:
    suffix = path.suffix.lower()
    return next((kind for kind, ends in FORMATS.items() if suffix in ends), None)


def make_reader(
    kind: str,
    paths: Sequence[Path],
    skips: Skips,
    variables: Sequence[str] | None = None,
    layout: str | None = None,
    levels: Sequence[float] | None = None,
) -> Reader:
    """The reader of a format; see `stjax.data.sources.files.Files` for the fields."""
    if kind == "video":
        return VideoReader(paths, skips)
    if kind == "images":
        return ImageReader(paths, skips)
    if kind == "grid":
        return GridReader(paths, skips, variables, levels)
    return ArrayReader(paths, skips, variables[0] if variables else None, layout)
