"""Signal-to-noise ratios in decibels, per frame, then averaged (mean of dB).

A frame that is exactly right would be infinite and swallow every mean; ratios are held
at ±100 dB. With a mask a frame's ratio is that of its valid cells, and frames without
any do not count. Signals are in [0, 1]; predictions are clipped to it, targets are not.
"""

import jax
import jax.numpy as jnp

from stjax.metrics.masking import FRAME, prepare
from stjax.metrics.registry import Metric, Pair, register

_LIMIT = 100.0  # dB


def psnr(pred: jax.Array, target: jax.Array, mask: jax.Array | None = None) -> Pair:
    """Peak signal-to-noise ratio, ``-10 log10(mean squared error)`` of each frame.

    ``[B,T,H,W,C]`` to ``[B,T]``. Source: OpenSTL, ``openstl/core/metrics.py``.
    """
    pred, target, valid = prepare(pred, target, mask)
    noise = _mean(jnp.square(_clip(pred) - target), valid)
    return _pair(-noise, valid, 0.0)


def psnr_wrapped(
    pred: jax.Array, target: jax.Array, mask: jax.Array | None = None
) -> Pair:
    """PSNR as the SimVP and TAU papers printed it: uint8 differences that wrap around.

    The original code (A4Bio/SimVP, after E3D-LSTM) subtracts and squares in uint8, so
    every squared error is taken modulo 256 and the ratio never falls below 24.07 dB.
    Only for comparison with those tables (KTH 33 to 34 dB; truly about 27).
    """
    pred, target, valid = prepare(pred, target, mask)
    # In int32 with explicit wrapping: XLA widens uint8 arithmetic where it can.
    difference = (_byte(_clip(pred)) - _byte(target)) & 255
    squared = (difference * difference) & 255
    noise = _mean(squared.astype(jnp.float32), valid)
    return _pair(-noise, valid, 20 * jnp.log10(255.0))


def snr(pred: jax.Array, target: jax.Array, mask: jax.Array | None = None) -> Pair:
    """Signal-to-noise ratio, ``10 log10(mean target² / mean squared error)``."""
    pred, target, valid = prepare(pred, target, mask)
    noise = _mean(jnp.square(_clip(pred) - target), valid)
    return _pair(_mean(jnp.square(target), valid) - noise, valid, 0.0)


def _clip(frames):
    return jnp.clip(frames, 0, 1)


def _byte(frames):
    return (frames * 255).astype(jnp.int32) & 255


def _mean(power, valid):
    """``10 log10`` of the mean of each frame's valid cells, at least -370 dB."""
    mean = jnp.sum(power * valid, FRAME) / jnp.maximum(jnp.sum(valid, FRAME), 1)
    return 10 * jnp.log10(jnp.maximum(mean, 1e-37))


def _pair(decibel, valid, offset):
    some = jnp.any(valid > 0, FRAME).astype(jnp.float32)
    return jnp.clip(decibel + offset, -_LIMIT, _LIMIT) * some, some


register("psnr", Metric(psnr, higher_is_better=True))
register("psnr_wrapped", Metric(psnr_wrapped, higher_is_better=True))
register("snr", Metric(snr, higher_is_better=True))
