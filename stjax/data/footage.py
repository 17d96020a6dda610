"""The frames of one video of a list: decoded from a file, or a folder of images."""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from stjax.data.lists.item import Item
from stjax.data.reading import IMAGES, LATE, natural, open_image
from stjax.data.video import VideoIndex, decode, index_video
from stjax.errors import UserError

# Seeking opens the file again: worth it if it saves more frames than this.
_WORTH_SEEKING = 24


class Footage(Protocol):
    """Random access to the frames of a video.

    Attributes:
      length: frames, at least 1.
      rate: frames a second, None if that is not known.
    """

    length: int
    rate: float | None

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """(index, [H, W, 3] uint8), once for each index that is wanted, ascending."""


def open_footage(root: Path, item: Item, pattern: str | None = None) -> Footage:
    """The frames of an item; indexes of files that were opened are kept.

    Args:
      root: folder of the videos.
      item: one of a list.
      pattern: of the names of a folder's frames, instead of the item's.

    Raises:
      UserError: if it is not a video, or has no frames.
    """
    path = os.path.join(root, item.path)
    if item.files:
        return ImageFootage(path, [os.path.join(root, name) for name in item.files])
    if not os.path.isdir(path):
        return VideoFootage(path)
    pattern = pattern or item.pattern
    if pattern is None:
        names = _images(path)
    else:
        count = len(_images(path)) if item.length is None else item.length
        names = [pattern.format(item.first + k) for k in range(count)]
    return ImageFootage(path, [os.path.join(path, name) for name in names])


@functools.lru_cache(maxsize=1024)
def _images(folder: str) -> tuple[str, ...]:
    """Names of the images in a folder, in natural order."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(IMAGES)]
    return tuple(sorted(names, key=natural))


@functools.lru_cache(maxsize=4096)
def _index(path: str) -> VideoIndex:
    return index_video(path)


class ImageFootage:
    """Frames that are image files."""

    rate = None

    def __init__(self, path: str, files: Sequence[str]):
        if not files:
            raise UserError(f"{path} has no frames: no image in it; {LATE}")
        self._files, self.length = files, len(files)

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Footage`."""
        for k in sorted(set(wanted)):
            try:
                image = open_image(self._files[k])
            except OSError as error:
                raise UserError(
                    f"cannot read {self._files[k]}: {error}; {LATE}"
                ) from error
            yield k, np.repeat(image, 3, -1) if image.shape[-1] == 1 else image


class VideoFootage:
    """Frames of a video file; only those that are wanted are converted to rgb."""

    def __init__(self, path: str):
        self._path = path
        try:
            self._video = _index(path)
        except (OSError, ValueError, av.FFmpegError) as error:
            raise UserError(f"cannot read {path}: {error}; {LATE}") from error
        self.length, self.rate = self._video.length, self._video.rate

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Footage`."""
        rest, at = sorted(set(wanted)), 0
        # Of all frames: each frame's own converter would be set up anew.
        convert = VideoReformatter()
        try:
            while at < len(rest):
                for k, frame in decode(self._video, rest[at]):
                    if k == rest[at]:
                        rgb = convert.reformat(frame, format="rgb24")
                        yield k, rgb.to_ndarray()
                        at += 1
                        if at == len(rest) or self._seeks(k, rest[at]):
                            break
                else:
                    raise OSError(f"frame {rest[at]} of {self.length} is damaged")
        except (OSError, ValueError, av.FFmpegError) as error:
            if isinstance(error, UserError):  # of who uses the frame
                raise
            raise UserError(f"cannot decode {self._path}: {error}; {LATE}") from error

    def _seeks(self, now: int, then: int) -> bool:
        """Whether a key frame lets a decoder skip much of what is between."""
        if then - now <= _WORTH_SEEKING or self._video.pts is None:
            return False
        pts, keys = self._video.pts, self._video.keys[:, 0]
        usable = keys[keys <= pts[then]]
        if not len(usable):
            return False
        return int(np.searchsorted(pts, usable[-1])) - now > _WORTH_SEEKING
