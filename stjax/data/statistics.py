"""Mean and deviation of each channel over the training frames."""

from collections.abc import Iterable

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
    frames = sum(s.end - s.begin for s in segments)
    every = max(1, -(-frames // _FRAMES))
    moments = np.zeros((3, 1))
    for s in segments:
        for begin in range(s.begin, s.end, 64 * every):
            part = range(begin, min(begin + 64 * every, s.end), every)
            x = reader.read(s.sequence, part, process).astype(np.float64)
            x = x.reshape(-1, x.shape[-1])
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
