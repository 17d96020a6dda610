"""Random transforms of whole clips, as a source that wraps a source."""

import numpy as np

from stjax.data.base import ClipSpec, Source
from stjax.errors import UserError, unknown

FLIPS = ("none", "horizontal", "moving_mnist")


class Augment:
    """A source whose clips are randomly enlarged and cropped, and flipped.

    All frames of a clip, input and target, are transformed alike. These are the
    optional augmentations of OpenSTL (off in its published results): for Moving
    MNIST crop 0.94 and the flips ``"moving_mnist"``, for KTH, KITTI and BAIR crop
    0.95 and ``"horizontal"``, for TaxiBJ ``"horizontal"`` alone.
    """

    def __init__(self, source: Source, *, crop: float = 1.0, flip: str = "none"):
        """Wraps a source.

        Args:
          source: where the clips come from; its length and shapes are kept.
          crop: frames are enlarged by ``1 / crop``, bilinearly, and a window of the
            original size is cut out at random; 1 leaves them.
          flip: ``"none"``; ``"horizontal"`` for every second clip; or
            ``"moving_mnist"``: OpenSTL's chain, where 3/4 of the clips turn by 180
            degrees, else 3/4 flip vertically, else 3/4 horizontally.

        Raises:
          UserError: for a crop outside (0, 1] or an unknown flip.
        """
        if not 0 < crop <= 1:
            raise UserError(f"crop={crop}: expected a fraction above 0, at most 1")
        if flip not in FLIPS:
            raise unknown("flip", flip, FLIPS)
        self.source, self.crop, self.flip = source, crop, flip

    @property
    def spec(self) -> ClipSpec:
        """The wrapped source's."""
        return self.source.spec

    @property
    def changes(self) -> bool:
        """Whether any clip can come out changed."""
        return self.crop < 1 or self.flip != "none"

    def __len__(self) -> int:
        return len(self.source)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        clip = self.source.clip(index, rng)
        corner = rng.random(2)
        axes = _flip_axes(rng, self.flip)
        for name in ("input", "target"):
            video = clip[name]
            if self.crop < 1:
                video = crop_resize(video, self.crop, corner)
            clip[name] = np.flip(video, axes) if axes else video
        return clip


def _flip_axes(rng: np.random.Generator, flip: str) -> tuple[int, ...]:
    """Axes of [T, H, W, C] to reverse."""
    draws = rng.random(3)
    if flip == "horizontal":
        return (2,) if draws[0] < 0.5 else ()
    if flip == "moving_mnist":
        for draw, axes in zip(draws, ((1, 2), (1,), (2,)), strict=True):
            if draw < 0.75:
                return axes
    return ()


def crop_resize(video: np.ndarray, crop: float, corner: np.ndarray) -> np.ndarray:
    """Enlarges frames bilinearly and cuts a window of the original size out.

    Args:
      video: [T, H, W, C], uint8 or float32.
      crop: the frames grow to ``floor(size / crop)``.
      corner: (row, column) of the window in [0, 1) of the room there is.

    Returns:
      Of the shape and dtype of ``video``; uint8 is rounded to nearest.
    """
    out = video.astype(np.float32)
    for axis, where in zip((1, 2), corner, strict=True):
        size = video.shape[axis]
        large = int(size / crop)
        first = int(where * (large - size + 1))
        # Pixel centres of the window in the coordinates of the small frame.
        at = (np.arange(first, first + size) + 0.5) * crop - 0.5
        at = np.clip(at, 0, size - 1)
        low = at.astype(np.int64)
        high = np.minimum(low + 1, size - 1)
        part = (at - low).astype(np.float32)
        part = part.reshape([-1 if a == axis else 1 for a in range(4)])
        out = np.take(out, low, axis) * (1 - part) + np.take(out, high, axis) * part
    return np.rint(out).astype(np.uint8) if video.dtype == np.uint8 else out
