"""What users give to a trained model: checked, errors said in one line."""

import jax.numpy as jnp
import numpy as np

from stjax.data.base import ClipSpec
from stjax.errors import UserError

_SLACK = 1e-3  # Floats in [0, 1] that went through a resize or bfloat16 may stick out.


def as_array(x: object) -> np.ndarray:
    """Anything numpy can read.

    Raises:
      UserError: clips of different shapes, or no numbers at all.
    """
    try:
        array = np.asarray(x)
    except ValueError as error:  # a ragged list
        raise UserError(
            "the input is no array: its clips or frames differ in shape; give them one"
            " by one, or resize them"
        ) from error
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    if not floating and array.dtype.kind not in "bui":
        raise UserError(f"input has dtype {array.dtype}, expected uint8 or float")
    return array.astype(np.float32) if floating else array


def as_pixels(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Pictures as uint8 or as float32 in [0, 1], and what 1 is in 0..255.

    Args:
      x: integers in 0..255, finite floats in [0, 1], or booleans, which are such.

    Raises:
      UserError: values beyond that range.
    """
    x = x.astype(np.float32) if x.dtype == bool else x
    low, high = x.min(), x.max()
    if x.dtype.kind == "f":
        if low < -_SLACK or high > 1 + _SLACK:
            raise UserError(
                f"float frames range from {low:.4g} to {high:.4g}, expected 0 to 1;"
                " divide by 255 or give uint8"
            )
        return x, 255.0
    if low < 0 or high > 255:
        raise UserError(f"integer frames range from {low} to {high}, expected 0 to 255")
    return x.astype(np.uint8), 1.0


def finite(x: np.ndarray, missing: np.ndarray | None = None) -> np.ndarray:
    """Numbers only.

    Args:
      x: any numbers.
      missing: what stands for values that are NaN or infinite, by channel; None: they
        are an error.

    Raises:
      UserError: there are such values.
    """
    bad = ~np.isfinite(x) if x.dtype.kind == "f" else np.zeros((), bool)
    if not bad.any():
        return x
    if missing is not None:
        return np.where(bad, missing, x)
    raise UserError(
        f"input holds {bad.sum()} values that are NaN or infinite (of {x.size});"
        " fill them, or train with data.nan='mask'"
    )


def with_axes(x: np.ndarray, spec: ClipSpec, any_length: bool) -> np.ndarray:
    """Frames so far as [B, T_in, H, W, C_in].

    Args:
      x: the same, or without batch, or of one channel without that, too.
      spec: of the training data.
      any_length: take all frames, not the last T_in.

    Raises:
      UserError: another number of axes or channels, too few frames, or nothing.
    """
    t_in, height, width, channels = spec.input_shape
    expected = f"expected [B, {t_in}, {height}, {width}, {channels}]"
    if x.ndim == 3 and channels == 1:
        x = x[None, ..., None]
    elif x.ndim == 4:
        x = x[None]
    elif x.ndim != 5:
        raise UserError(
            f"input of shape {x.shape} has {x.ndim} axes; {expected} or without B"
        )
    if x.shape[-1] != channels:
        raise UserError(
            f"input has {x.shape[-1]} channels (the last axis of {x.shape}), the"
            f" model takes {channels} ({', '.join(spec.channels[:8])})"
        )
    if x.shape[1] < (1 if any_length else t_in):
        raise UserError(
            f"input has {x.shape[1]} frames, the model takes {t_in} (of more, the"
            f" last {t_in}); {expected}"
        )
    x = x if any_length else x[:, -t_in:]
    if 0 in x.shape:
        raise UserError(f"input of shape {x.shape} is empty; {expected}")
    return x
