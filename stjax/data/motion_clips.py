"""Motion clips: a small recognition data set whose label is a product of two factors.

A handwritten digit crosses a piece of real footage, from left to right ("forward") or
from right to left ("backward"). In the middle of its way it is hidden, and the digit
that comes back is of the same kind ("same") or of another one ("different"). What a
model can know of the four classes follows from how it sees time:

- *Order.* A backward clip is a forward clip whose digits are shown in reverse time, and
  the footage behind them runs either way by chance. So both have the same
  distribution of the frames as a set, and a model that does not see their order (C2D;
  non-local blocks compare all frames alike) gives a clip and its reverse the same
  scores: chance.
- *Same or different.* One moment tells nothing: each digit is as likely before as
  after the gap. A model that adds up evidence of single moments (C2D: mean over time,
  then a linear layer) has the same mean score for both. Comparing two distant frames,
  as a non-local block does, solves it.

Digits and footage of training, validation and test are disjoint.
"""

import dataclasses

import numpy as np

from stjax.data.digits import EMBEDDED, load_digits
from stjax.data.windows import SPLITS
from stjax.errors import UserError

CLASSES = (
    "backward_different",
    "backward_same",
    "forward_different",
    "forward_same",
)
FACTORS = ("order", "same")
# The footage is darkened to this share: white digits stay visible on white cars.
_DIM = 0.5
_SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1.0)}


def factor_accuracy(
    confusion: np.ndarray, classes: tuple[str, ...] = CLASSES
) -> dict[str, float]:
    """How often each factor of the label is right, whatever the other one is.

    Args:
      confusion: [K, K] counts, true class by predicted class.
      classes: names of the rows, one word for each of `FACTORS`.

    Returns:
      ``{"order": share, "same": share}``; chance is 0.5 for both.
    """
    confusion = np.asarray(confusion, np.float64)
    words = np.array([name.split("_") for name in classes])
    agree = words[:, None] == words[None]  # [K, K, factors]
    right = (confusion[..., None] * agree).sum((0, 1)) / confusion.sum()
    return dict(zip(FACTORS, right.tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Sizes of a clip.

    Attributes:
      frames: of a clip, at least 4; a quarter of them, in the middle, hide the digit.
      size: rows and columns, even.
      digit_size: rows and columns of a digit.
      digits: the kinds of digit, at least two. Two kinds are learnt in minutes; four
        take several times as long.
    """

    frames: int = 8
    size: int = 32
    digit_size: int = 16
    digits: tuple[int, ...] = (0, 1)

    def __post_init__(self):
        if self.frames < 4 or self.size % 2 or not 0 < self.digit_size <= self.size:
            raise UserError(
                f"motion clips need at least 4 frames of an even size that digits fit"
                f" in; got {self.frames} frames of {self.size}, digits of"
                f" {self.digit_size}"
            )
        kinds = set(self.digits)
        if len(kinds) < 2 or len(kinds) < len(self.digits) or kinds - set(range(10)):
            raise UserError(f"digits are {self.digits}; name two or more of 0 to 9")


def split_digits(split: str, layout: Layout) -> list[np.ndarray]:
    """Real digits of a split: for each kind of the layout, [N, size, size] uint8."""
    before = SPLITS[: SPLITS.index(split)]
    start = sum(len(load_digits(name)) for name in before)
    images = load_digits(split, digit_size=layout.digit_size)
    with np.load(EMBEDDED) as shipped:
        labels = shipped["labels"][start : start + len(images)]
    return [images[labels == kind] for kind in layout.digits]


def split_footage(
    videos: dict[str, np.ndarray], split: str, layout: Layout
) -> list[np.ndarray]:
    """The part of each video that belongs to a split: 70, 15 and 15 % of its frames.

    Raises:
      UserError: a part is shorter or smaller than a clip.
    """
    parts = []
    for name, video in videos.items():
        start, stop = (round(share * len(video)) for share in _SHARES[split])
        part = video[start:stop]
        if len(part) < layout.frames or min(part.shape[1:3]) < layout.size:
            raise UserError(
                f"{name}: its {split} part has {len(part)} frames of"
                f" {part.shape[2]}x{part.shape[1]}; clips need at least"
                f" {layout.frames} of {layout.size}x{layout.size}: leave the video out"
            )
        parts.append(part)
    return parts


def background(
    rng: np.random.Generator, footage: list[np.ndarray], layout: Layout
) -> np.ndarray:
    """A random window of random footage, in either direction of time, darkened."""
    video = footage[rng.integers(len(footage))]
    sizes = (layout.frames, layout.size, layout.size)
    corner = [rng.integers(n - k + 1) for n, k in zip(video.shape, sizes, strict=False)]
    window = tuple(slice(c, c + k) for c, k in zip(corner, sizes, strict=True))
    clip = video[window]
    return (clip[::-1] if rng.integers(2) else clip) * np.float32(_DIM)


def motion_clip(
    rng: np.random.Generator,
    label: str,
    footage: list[np.ndarray],
    digits: list[np.ndarray],
    layout: Layout,
) -> np.ndarray:
    """One clip.

    Nothing but the last two steps depends on the label, so clips of two classes that
    are made with generators in the same state differ in that factor only.

    Args:
      rng: the only source of randomness.
      label: one of `CLASSES`.
      footage: videos [T, H, W, 3] uint8 at least as large as a clip.
      digits: of each kind, [N, digit_size, digit_size] uint8.
      layout: the sizes.

    Returns:
      [frames, size, size, 3] uint8.
    """
    order, pairing = label.split("_")
    frames, room = layout.frames, layout.size - layout.digit_size
    clip = background(rng, footage, layout)
    row = rng.integers(room + 1)
    margin = rng.uniform(0, room / 4, 2)
    columns = np.rint(np.linspace(margin[0], room - margin[1], frames)).astype(int)
    kind, other = rng.permutation(len(digits))[:2]
    which = rng.random(2)
    kinds = (kind, kind if pairing == "same" else other)
    images = [
        digits[k][int(u * len(digits[k]))] for k, u in zip(kinds, which, strict=True)
    ]
    shown = (frames - frames // 4) // 2
    for t in (*range(shown), *range(frames - shown, frames)):
        opaque = images[t >= shown][..., None] / np.float32(255)
        frame = clip[t if order == "forward" else frames - 1 - t]
        left = columns[t]
        patch = frame[row : row + layout.digit_size, left : left + layout.digit_size]
        patch += (255 - patch) * opaque
    return np.rint(clip).astype(np.uint8)
