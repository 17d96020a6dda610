"""Random access to the frames of video files, decoded when asked for (PyAV)."""

import collections
import dataclasses
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from stjax.data.reading import LATE, Process, Skips, default_channels
from stjax.errors import UserError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
# Containers that store a time for every packet; others are read from the beginning.
_SEEKABLE = {"mp4", "matroska", "avi"}
_CACHE_BYTES = 64 << 20
# Frames of fewer pixels are decoded in one thread: starting more costs more than it
# gains, four times the whole for clips of 32 x 32.
_SMALL = 128 * 128


@dataclasses.dataclass(frozen=True)
class VideoIndex:
    """Where the frames of a video are.

    Attributes:
      path: the file.
      pts: [T] presentation times in the order of display; None where the container
        does not store them: then the file is read from its beginning each time.
      length: frames.
      keys: [K, 2] of each key frame: its pts, and the time to seek to.
      size: (height, width).
      rate: frames a second on average; None where the container does not tell.
    """

    path: str
    pts: np.ndarray | None
    length: int
    keys: np.ndarray
    size: tuple[int, int]
    rate: float | None = None


def index_video(path: str | Path) -> VideoIndex:
    """Reads the packets of a video, and decodes its first frame only.

    Raises:
      OSError or av.FFmpegError: if it is not a readable video.
    """
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise OSError("it has no video stream")
        stream = container.streams.video[0]
        rate = float(stream.average_rate) if stream.average_rate else None
        seekable = _SEEKABLE & set(container.format.name.split(","))
        packets = [
            (p.pts, p.dts, p.is_keyframe)
            for p in container.demux(stream)
            if p.size and not p.is_discard
        ]
    pts = [p[0] for p in packets]
    with av.open(str(path)) as container:
        first = next(container.decode(video=0), None)
        if first is None:
            raise OSError("it has no frames")
        size = first.height, first.width
        if not seekable or None in pts or len(set(pts)) != len(pts):
            length = 1 + sum(1 for _ in container.decode(video=0))
            keys = np.zeros((0, 2), np.int64)
            return VideoIndex(str(path), None, length, keys, size, rate)
    # With frames that are displayed in another order than they are stored, a demuxer
    # may seek by either of the two times. By the first mp4 finds the key frame itself,
    # the earlier one never overshoots.
    keys = sorted(
        (p[0], min(p[0], p[0] if p[1] is None else p[1])) for p in packets if p[2]
    )
    times = np.sort(np.asarray(pts, np.int64))
    keys = np.asarray(keys, np.int64).reshape(-1, 2)
    return VideoIndex(str(path), times, len(pts), keys, size, rate)


def _starts(index: VideoIndex, first: int) -> list[int | None]:
    """Times to try to seek to, best first; None: the beginning."""
    if index.pts is None:
        return [None]
    usable = index.keys[index.keys[:, 0] <= index.pts[first]]
    times = [time for key in usable[:0:-1][:2].tolist() for time in key]
    return [*dict.fromkeys(times), None]


def decode(index: VideoIndex, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """(frame number, frame) from the last key frame that comes before ``first``, on.

    Decoding starts at a key frame that is displayed no later than ``first``, so that
    every reference of a B-frame is there; earlier if that turns out to be wrong.
    """
    for start in _starts(index, first):
        with av.open(index.path) as container:
            stream = container.streams.video[0]
            if stream.width * stream.height <= _SMALL:
                stream.codec_context.thread_count = 1
            if start is not None:
                container.seek(start, stream=stream, backward=True)
            previous = None
            for count, frame in enumerate(container.decode(stream)):
                number = count
                if index.pts is not None:
                    number = int(np.searchsorted(index.pts, frame.pts or 0))
                    if number >= index.length or index.pts[number] != frame.pts:
                        break
                if number > (first if previous is None else previous + 1):
                    break  # the seek went too far, or frames are lost: start earlier
                previous = number
                yield number, frame
            else:
                return


def rgb(frame: av.VideoFrame, convert: VideoReformatter) -> np.ndarray:
    """[H, W, 3] uint8.

    Args:
      frame: of a video.
      convert: the same for all frames of a video: setting one up takes longer than
        decoding a small frame.
    """
    threads = 1 if frame.width * frame.height <= _SMALL else 0  # 0: automatic
    return convert.reformat(frame, format="rgb24", threads=threads).to_ndarray()


@dataclasses.dataclass
class _Decoder:
    """A decoder that stands somewhere in a file, to go on from there."""

    sequence: int
    next: int
    frames: Iterator[tuple[int, av.VideoFrame]]
    convert: VideoReformatter = dataclasses.field(default_factory=VideoReformatter)


class VideoReader:
    """Video files, one sequence each, with a small cache of decoded frames."""

    def __init__(self, paths: Sequence[Path], skips: Skips):
        self._index: list[VideoIndex] = []
        for path in paths:
            try:
                self._index.append(index_video(path))
            except (OSError, ValueError, av.FFmpegError) as error:
                skips.add(path, error)
        self.names = [i.path for i in self._index]
        self.lengths = [i.length for i in self._index]
        self.sizes = [i.size for i in self._index]
        self.channels = default_channels(3)
        self.dtype, self.units, self.skipped = "uint8", "", skips.names
        self._reset()

    def _reset(self):
        # (sequence, frame) -> frame after process; the oldest goes first.
        self._cache: collections.OrderedDict = collections.OrderedDict()
        self._bytes = self._frame_bytes = 0
        self._last: _Decoder | None = None
        self._lock = threading.Lock()

    def __getstate__(self):
        hidden = ("_cache", "_bytes", "_frame_bytes", "_last", "_lock")
        return {k: v for k, v in self.__dict__.items() if k not in hidden}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._reset()

    def _put(self, key: tuple[int, int], frame: np.ndarray) -> None:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = frame
                self._bytes += frame.nbytes
            self._cache.move_to_end(key)
            while self._bytes > _CACHE_BYTES and len(self._cache) > 1:
                self._bytes -= self._cache.popitem(last=False)[1].nbytes

    def _decoder(self, sequence: int, first: int) -> _Decoder:
        """The one of the last read, if going on is shorter than seeking."""
        with self._lock:
            last, self._last = self._last, None
        index = self._index[sequence]
        if last is not None and last.sequence == sequence and last.next <= first:
            keys = index.keys[:, 0]
            between = index.pts is not None and np.any(
                (keys > index.pts[last.next]) & (keys <= index.pts[first])
            )
            if not between:
                return last
        return _Decoder(sequence, first, decode(index, first))

    def _decode(self, sequence: int, missing: list[int], process: Process):
        """{frame number: frame} of what is missing; what else is passed is cached."""
        decoder = self._decoder(sequence, missing[0])
        wanted, found = set(missing), {}
        for k, frame in decoder.frames:
            new = (sequence, k) not in self._cache
            # Only if the whole video fits: otherwise it would push itself out.
            keep = self._frame_bytes * self.lengths[sequence] <= _CACHE_BYTES
            if k in wanted or (new and keep):
                pixels = process(rgb(frame, decoder.convert))
                self._frame_bytes = pixels.nbytes
                self._put((sequence, k), pixels)
                if k in wanted:
                    found[k] = pixels
            if k >= missing[-1]:
                decoder.next = k + 1
                if decoder.next < self.lengths[sequence]:
                    self._last = decoder
                break
        return found

    def read(self, sequence: int, frames: range, process: Process) -> np.ndarray:
        """[len(frames), H, W, C], after ``process`` (the same at every call)."""
        with self._lock:
            found = {k: self._cache.get((sequence, k)) for k in frames}
        missing = [k for k, frame in found.items() if frame is None]
        if missing:
            path = self.names[sequence]
            try:
                found |= self._decode(sequence, missing, process)
            except UserError:  # from process
                raise
            except (OSError, ValueError, av.FFmpegError) as error:
                raise UserError(f"cannot decode {path}: {error}; {LATE}") from error
            lost = [k for k in missing if found[k] is None]
            if lost:
                raise UserError(
                    f"cannot decode frame {lost[0]} of {self.lengths[sequence]} of"
                    f" {path}: it is damaged; {LATE}"
                )
        return np.stack([found[k] for k in frames])
