"""Predictions that need no training: what a model has to beat.

All take and give numpy arrays, ``[B, T, H, W, C]``.
"""

import contextlib
import io
import types

import numpy as np

from stjax.errors import UserError


def persistence(x: np.ndarray, frames: int) -> np.ndarray:
    """The last input frame, ``frames`` times."""
    return np.repeat(x[:, -1:], frames, axis=1)


def mean_frame(x: np.ndarray, frames: int) -> np.ndarray:
    """The mean of each clip's input frames, ``frames`` times; float32."""
    mean = x.mean(axis=1, keepdims=True, dtype=np.float64)
    return np.repeat(mean.astype(np.float32), frames, axis=1)


def lagrangian_persistence(
    x: np.ndarray, frames: int, *, method: str = "vet", **options: object
) -> np.ndarray:
    """The last frame, carried along by the motion of the last frames.

    The nowcaster's baseline (Germann and Zawadzki, 2002): a motion field from the
    input, then semi-Lagrangian extrapolation, both by pysteps, each clip and channel
    on its own. What flows in over the border is not known: there the last frame stands
    still.

    Args:
      x: ``[B, T, H, W, C]`` with T >= 2, finite.
      frames: how many to predict.
      method: of ``pysteps.motion``: ``'vet'`` (variational echo tracking, uses the last
        three frames, seconds a clip), ``'lucaskanade'`` (fast, needs OpenCV),
        ``'proesmans'`` or ``'darts'``.
      **options: of that method, such as ``sectors`` of ``'vet'``.

    Returns:
      ``[B, frames, H, W, C]`` float32.

    Raises:
      UserError: pysteps (or what the method needs) is missing, a clip of one frame,
        values that are not finite.
    """
    if x.shape[1] < 2:
        raise UserError(f"motion needs 2 or more input frames, got {x.shape[1]}")
    if not np.isfinite(x).all():
        raise UserError("lagrangian persistence needs finite values; fill the no-data")
    pysteps = import_pysteps()
    if method == "proesmans":  # its six levels crash Python where frames are small
        smallest = min(x.shape[2:4])
        options = {"num_levels": max(1, min(6, smallest.bit_length() - 2)), **options}
    fields = np.moveaxis(np.asarray(x, np.float64), -1, 1)  # [B, C, T, H, W]
    moved = [
        _carry(f, frames, method, options, pysteps) for clip in fields for f in clip
    ]
    moved = np.stack(moved).reshape(*fields.shape[:2], frames, *fields.shape[3:])
    return np.moveaxis(moved, 1, -1).astype(np.float32)


def _carry(field, frames, method, options, pysteps):
    """One channel of one clip, ``[T, H, W]`` to ``[frames, H, W]``."""
    last = np.broadcast_to(field[-1], (frames, *field.shape[1:]))
    if np.ptp(field) == 0:
        return last
    used = {"vet": 3, "proesmans": 2}.get(method, len(field))
    try:
        # pysteps reports its progress on the standard output.
        with contextlib.redirect_stdout(io.StringIO()):
            motion = pysteps.motion.get_method(method)(field[-used:], **options)
            extrapolate = pysteps.extrapolation.get_method("semilagrangian")
            moved = extrapolate(field[-1], motion, frames)
    except Exception as error:
        raise UserError(
            f"pysteps' method {method!r} failed: {type(error).__name__}: {error}; "
            "try method='vet'"
        ) from error
    return np.where(np.isfinite(moved), moved, last)


def import_pysteps() -> types.ModuleType:
    """The package, which reports on the standard output when it is imported.

    Raises:
      UserError: it is not installed.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import pysteps
            import pysteps.extrapolation
            import pysteps.motion
    except ImportError:
        raise UserError(
            "lagrangian persistence needs pysteps: pip install pysteps"
        ) from None
    return pysteps
