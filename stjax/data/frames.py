"""What is done to every frame on the way in: crop, grey or rgb, another size."""

import dataclasses
import functools

import numpy as np

from stjax.errors import UserError, unknown

# ITU-R BT.601 luma, the grey of Pillow and OpenCV.
_LUMA = np.asarray([0.299, 0.587, 0.114], np.float32)
FITS = ("stretch", "crop", "pad")


def _kernel(x: np.ndarray, method: str) -> np.ndarray:
    x = np.abs(x)
    if method == "linear":
        return np.maximum(0, 1 - x)
    # Keys' cubic with a = -0.75, as OpenCV's INTER_CUBIC.
    a = -0.75
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


@functools.lru_cache(maxsize=64)
def _weights(n_in: int, n_out: int, method: str, antialias: bool) -> np.ndarray:
    """Interpolation as a matrix [n_out, n_in]; pixel centres at i + 1/2."""
    step = n_in / n_out
    scale = max(1.0, step) if antialias else 1.0
    centre = (np.arange(n_out) + 0.5) * step - 0.5
    reach = int(np.ceil({"linear": 1, "cubic": 2}[method] * scale)) + 1
    offsets = np.floor(centre)[:, None] + np.arange(-reach, reach + 1)
    taps = _kernel((offsets - centre[:, None]) / scale, method)
    weights = np.zeros((n_out, n_in))
    if antialias:  # a tap outside the picture does not count (as Pillow)
        taps = np.where((offsets >= 0) & (offsets < n_in), taps, 0)
    rows = np.broadcast_to(np.arange(n_out)[:, None], offsets.shape)
    # Without it the border pixel is repeated (as OpenCV).
    np.add.at(weights, (rows, np.clip(offsets, 0, n_in - 1).astype(int)), taps)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def resize(
    frames: np.ndarray,
    size: tuple[int, int],
    method: str = "linear",
    antialias: bool = True,
) -> np.ndarray:
    """Frames of another size.

    With ``antialias`` this is Pillow's ``resize`` (BILINEAR), without it OpenCV's
    ``INTER_LINEAR`` or ``INTER_CUBIC``, up to rounding. A cell more than half of
    whose weight is NaN becomes NaN; elsewhere the valid cells alone count.

    Args:
      frames: [..., H, W, C], uint8 or float32.
      size: (height, width).
      method: ``"linear"`` or ``"cubic"``.
      antialias: widen the kernel when shrinking.

    Returns:
      [..., height, width, C] of the same dtype.
    """
    height, width = frames.shape[-3:-1]
    if (height, width) == tuple(size):
        return frames
    rows = _weights(height, size[0], method, antialias)
    cols = _weights(width, size[1], method, antialias)

    def apply(x: np.ndarray) -> np.ndarray:
        *batch, _, _, c = x.shape
        x = np.matmul(rows, x.reshape(*batch, height, width * c))
        return np.matmul(cols, x.reshape(*batch, size[0], width, c))

    if frames.dtype == np.uint8:
        out = apply(frames.astype(np.float32))
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)
    missing = np.isnan(frames)
    if not missing.any():
        return np.ascontiguousarray(apply(frames), np.float32)
    weight = apply((~missing).astype(np.float32))
    value = apply(np.where(missing, 0, frames).astype(np.float32))
    valid = weight >= 0.5
    return np.where(valid, value / np.where(valid, weight, 1), np.nan).astype(
        np.float32
    )


def to_channels(frames: np.ndarray, channels: str) -> np.ndarray:
    """[..., 1 or 3] as grey [..., 1] (BT.601) or rgb [..., 3]."""
    n = frames.shape[-1]
    if channels not in ("grey", "rgb"):
        raise unknown("data.channels", channels, ("grey", "rgb"))
    if n not in (1, 3):
        raise UserError(
            f"data.channels={channels!r} needs frames of 1 or 3 channels, got {n}:"
            " leave it out"
        )
    if n == 3 and channels == "grey":
        grey = frames.astype(np.float32) @ _LUMA
        return (
            np.rint(grey)[..., None].astype(frames.dtype)
            if frames.dtype == (np.uint8)
            else grey[..., None]
        )
    return np.repeat(frames, 3, -1) if n == 1 and channels == "rgb" else frames


@dataclasses.dataclass(frozen=True)
class FrameProcess:
    """Crop, then channels, then size.

    Attributes:
      crop: (top, left, height, width) of the part to keep; None for all.
      channels: ``"grey"``, ``"rgb"``, or None to leave them.
      size: (height, width) to bring the frames to; None to leave them.
      fit: how another aspect ratio fits ``size``: ``"stretch"``; ``"crop"``: scale to
        cover it and cut the middle out; ``"pad"``: scale to lie within it and add
        zeros (NaN to float frames) below and to the right.
    """

    crop: tuple[int, int, int, int] | None = None
    channels: str | None = None
    size: tuple[int, int] | None = None
    fit: str = "stretch"

    def __post_init__(self):
        if self.fit not in FITS:
            raise unknown("data.fit", self.fit, FITS)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """[..., H, W, C] → [..., h, w, c]."""
        if self.crop is not None:
            top, left, height, width = self.crop
            if top + height > frames.shape[-3] or left + width > frames.shape[-2]:
                raise UserError(
                    f"data.crop {self.crop} (top, left, height, width) reaches outside"
                    f" frames of {frames.shape[-3]}x{frames.shape[-2]}"
                )
            frames = frames[..., top : top + height, left : left + width, :]
        if self.channels is not None:
            frames = to_channels(frames, self.channels)
        return frames if self.size is None else self._fit(frames)

    def _fit(self, frames: np.ndarray) -> np.ndarray:
        (h, w), (height, width) = self.size, frames.shape[-3:-1]
        if self.fit == "stretch":
            return resize(frames, (h, w))
        choose = max if self.fit == "crop" else min
        scale = choose(h / height, w / width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        frames = resize(frames, inner)
        if self.fit == "crop":
            top, left = (inner[0] - h) // 2, (inner[1] - w) // 2
            return frames[..., top : top + h, left : left + w, :]
        shape = (*frames.shape[:-3], h, w, frames.shape[-1])
        fill = 0 if frames.dtype == np.uint8 else np.nan
        out = np.full(shape, fill, frames.dtype)
        out[..., : inner[0], : inner[1], :] = frames
        return out
