"""Mean and deviation of each channel, and of each cell, over the training frames."""

from collections.abc import Iterable, Iterator

import numpy as np

from stjax.data.reading import Process, Reader
from stjax.data.windows import Segment
from stjax.errors import UserError

# At most so many frames, evenly spaced: a data set of a terabyte also opens soon.
_FRAMES = 4096


def statistics(
    reader: Reader, segments: Iterable[Segment], process: Process
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, standard deviation) of each channel, in float64; NaN does not count.

    Args:
      reader: where the frames come from.
      segments: the training split.
      process: what is done to every frame first.

    Raises:
      UserError: if a channel has no valid value.
    """
    moments = np.zeros((3, 1))
    for frames in _sample(reader, segments, process):
        x = frames.reshape(-1, frames.shape[-1])
        valid = np.isfinite(x)
        x = np.where(valid, x, 0)
        moments = moments + [valid.sum(0), x.sum(0), (x**2).sum(0)]
    count, total, square = moments
    if not count.all():
        raise UserError(
            "no valid value in the training split to take the mean of; set"
            " data.value_range=(low, high) or change data.fractions"
        )
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    # A channel that never changes is only shifted.
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def climatology(
    reader: Reader, segments: Iterable[Segment], process: Process
) -> np.ndarray:
    """The mean training frame [1, H, W, C] float32; NaN where no value is valid.

    Arguments as in `statistics`.
    """
    total, count = 0.0, 0
    for frames in _sample(reader, segments, process):
        valid = np.isfinite(frames)
        total = total + np.where(valid, frames, 0).sum(0)
        count = count + valid.sum(0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean[None].astype(np.float32)


def _sample(
    reader: Reader, segments: Iterable[Segment], process: Process
) -> Iterator[np.ndarray]:
    """Parts [T, H, W, C] float64 of at most `_FRAMES` evenly spaced frames."""
    segments = list(segments)
    every = max(1, -(-sum(s.end - s.begin for s in segments) // _FRAMES))
    for s in segments:
        for begin in range(s.begin, s.end, 64 * every):
            part = range(begin, min(begin + 64 * every, s.end), every)
            yield reader.read(s.sequence, part, process).astype(np.float64)
