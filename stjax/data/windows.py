"""Windows over sequences, and the splits they may not cross."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from stjax.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Segment:
    """Frames ``begin <= frame < end`` of one sequence."""

    sequence: int
    begin: int
    end: int


def ending_windows(sequence: int, length: int, span: int, stride: int) -> Segment:
    """The segment of a sequence whose last window ends with the sequence.

    The rule of KTH and KITTI-Caltech: windows are laid from the last frame backwards.
    """
    return Segment(sequence, max(0, length - span) % stride, length)


class Windows:
    """Random access to the windows of some segments; none crosses a border.

    Args:
      segments: where windows may lie.
      span: frames from the first to the last of a window, both included.
      stride: frames between the starts of two windows: one number, or one for each
        segment.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        span: int,
        stride: int | Sequence[int] = 1,
    ):
        strides = [stride] * len(segments) if isinstance(stride, int) else stride
        self.segments = tuple(segments)
        self._strides = tuple(strides)
        counts = [
            (s.end - s.begin - span) // step + 1 if s.end - s.begin >= span else 0
            for s, step in zip(segments, strides, strict=True)
        ]
        self._ends = np.cumsum(np.asarray(counts, np.int64))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> tuple[int, int]:
        """(sequence, first frame) of a window."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        k = int(np.searchsorted(self._ends, index, side="right"))
        within = index - (int(self._ends[k - 1]) if k else 0)
        segment = self.segments[k]
        return segment.sequence, segment.begin + within * self._strides[k]


def borders(n: int, fractions: Sequence[float]) -> list[tuple[int, int]]:
    """Cuts ``range(n)`` into (begin, end), one for each fraction, in order.

    Where n allows it, a fraction above 0 gets at least one item.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not np.isclose(sum(fractions), 1):
        raise UserError(
            f"data.fractions is {tuple(fractions)}; expected three numbers (train,"
            " validation, test) that sum to 1"
        )
    ends = [round(n * float(f)) for f in np.cumsum(fractions)]
    sizes = [b - a for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    for k, fraction in enumerate(fractions):
        if fraction > 0 and sizes[k] == 0 and max(sizes) > 1:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[k] = 1
    ends = np.cumsum(sizes).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def split_by_time(
    lengths: Sequence[int], fractions: Sequence[float], split: str
) -> list[Segment]:
    """The split's stretch of every sequence: first train, last test."""
    part = SPLITS.index(split)
    return [Segment(k, *borders(n, fractions)[part]) for k, n in enumerate(lengths)]


def split_by_file(
    lengths: Sequence[int], fractions: Sequence[float], split: str
) -> list[Segment]:
    """The split's sequences, whole, in the order of their names."""
    begin, end = borders(len(lengths), fractions)[SPLITS.index(split)]
    return [Segment(k, 0, lengths[k]) for k in range(begin, end)]
