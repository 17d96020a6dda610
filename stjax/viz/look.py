"""What all pictures share: colours and the font."""

import numpy as np

PAPER = (255, 255, 255)
INK = (40, 40, 40)
FAINT = (130, 130, 130)
EDGE = (190, 190, 190)


def colour(
    frames: np.ndarray,
    value_range: tuple[float, float] = (0.0, 1.0),
    cmap: str | None = None,
) -> np.ndarray:
    """Frames as RGB: one channel grey, three RGB, otherwise the first in viridis.

    Args:
      frames: [..., C] of any real type; values outside the range are clipped, NaN
        (no data) becomes light grey.
      value_range: the values shown darkest and brightest.
      cmap: a matplotlib colour map for the first channel, in place of the rule above.

    Returns:
      uint8 [..., 3].
    """
    low, high = value_range
    x = (np.asarray(frames, np.float32) - low) / max(high - low, 1e-12)
    missing = ~np.isfinite(x)
    x = np.clip(np.where(missing, 0, x), 0, 1)
    channels = x.shape[-1]
    if cmap is None and channels in (1, 3):
        rgb = np.broadcast_to(x, (*x.shape[:-1], 3))
        hole = np.broadcast_to(missing, rgb.shape).any(-1)
    else:
        rgb = _colour_map(cmap or "viridis")(x[..., 0])[..., :3]
        hole = missing[..., 0]
    rgb = np.round(255 * np.asarray(rgb)).astype(np.uint8)
    rgb[hole] = EDGE
    return rgb


def _colour_map(name: str):
    import matplotlib

    return matplotlib.colormaps[name]


def font(size: int):
    """Pillow's own font."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
