"""LPIPS: distance between the features that AlexNet sees in two frames.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018, version 0.1 with the AlexNet trunk. The weights are not part of stjax: the
trunk is torchvision's pretrained ``alexnet``, the linear weights are ``alex.pth`` of
the PerceptualSimilarity project; `read_lpips` reads both.
"""

import functools
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stjax.errors import UserError
from stjax.metrics.masking import FRAME, prepare
from stjax.metrics.registry import Metric, Pair, register

# Index in torchvision's `features`, output channels, kernel, stride, padding.
_TRUNK = (
    ("0", 64, 11, 4, 2),
    ("3", 192, 5, 1, 2),
    ("6", 384, 3, 1, 1),
    ("8", 256, 3, 1, 1),
    ("10", 256, 3, 1, 1),
)
_POOL_BEFORE = ("3", "6")
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)
_SUMS = (2.3495, 16.143, 39.268, 27.197, 20.317)  # of the published linear weights
_SMALLEST = 31  # below, nothing is left after the second pooling

Weights = Mapping[str, np.ndarray]


def lpips(
    pred: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    weights: Weights | str,
) -> Pair:
    """LPIPS of each frame, ``[B,T,H,W,C]`` in [0, 1] to ``[B,T]``; 0 is identical.

    ``pred`` is clipped, ``target`` is not; one channel is repeated to three. Where the
    mask is 0 both frames are black, and the distance is divided by the valid share.

    Args:
      pred: the prediction.
      target: the truth.
      mask: 1 = valid.
      weights: of `read_lpips`, or the path of a file with all of them.

    Raises:
      UserError: frames that are too small, or neither 1 nor 3 channels.
    """
    height, width, channels = target.shape[-3:]
    if channels not in (1, 3) or min(height, width) < _SMALLEST:
        raise UserError(
            f"lpips needs 1 or 3 channels and frames of at least {_SMALLEST}x"
            f"{_SMALLEST}, got {height}x{width} with {channels}"
        )
    if isinstance(weights, str):
        weights = _read_once(weights)
    pred, target, valid = prepare(pred, target, mask)
    pairs = zip(
        _features(jnp.clip(pred, 0, 1), weights),
        _features(target, weights),
        strict=True,
    )
    distance = 0.0
    for layer, (ours, theirs) in enumerate(pairs):
        square = jnp.square(_unit(ours) - _unit(theirs))
        linear = jnp.asarray(weights[f"lin{layer}"])
        distance += jnp.mean(square @ linear, axis=(-2, -1))
    return distance.reshape(target.shape[:-3]), jnp.mean(valid, FRAME)


def read_lpips(
    *paths: str | Path, version: str | None = "0.1"
) -> dict[str, np.ndarray]:
    """Weights for `lpips` from one or several files, by their own key names.

    Args:
      *paths: ``.npz``, ``.safetensors`` or PyTorch files that together hold AlexNet's
        ``features.{0,3,6,8,10}.{weight,bias}`` and ``lin{0..4}.model.1.weight`` (or a
        whole ``lpips.LPIPS`` module).
      version: ``'0.1'`` warns if the linear weights are not the published ones; None
        takes any.

    Returns:
      ``conv{i}`` ``[h,w,in,out]``, ``bias{i}`` ``[out]``, ``lin{i}`` ``[out]``.

    Raises:
      UserError: a file that cannot be read, or a weight that is missing or of another
        shape.
    """
    state = {}
    for path in paths:
        state |= _read(Path(path))
    found = {_plain(key): np.asarray(value) for key, value in state.items()}
    weights, inputs = {}, 3
    for layer, (index, outputs, kernel, _, _) in enumerate(_TRUNK):
        where = f"in {', '.join(map(str, paths))}"
        shape = (outputs, inputs, kernel, kernel)
        conv = _take(found, f"features.{index}.weight", shape, where)
        weights[f"conv{layer}"] = np.transpose(conv, (2, 3, 1, 0))
        bias = _take(found, f"features.{index}.bias", (outputs,), where)
        weights[f"bias{layer}"] = bias
        name = f"lin{layer}.model.1.weight"
        weights[f"lin{layer}"] = _take(found, name, (1, outputs, 1, 1), where).ravel()
        inputs = outputs
    sums = [float(weights[f"lin{i}"].sum()) for i in range(len(_SUMS))]
    if version == "0.1" and not np.allclose(sums, _SUMS, rtol=1e-4):
        warnings.warn(
            "these are not the linear weights of LPIPS version 0.1: their sums are "
            f"{[round(s, 4) for s in sums]}, the published {list(_SUMS)}",
            stacklevel=2,
        )
    return weights


def _features(frames, weights):
    """The five maps after the ReLUs, ``[N, h, w, c]``."""
    x = frames.reshape(math.prod(frames.shape[:-3]), *frames.shape[-3:])
    x = (2 * x - 1 - _SHIFT) / _SCALE  # repeats one channel to three
    for layer, (index, _, _, stride, padding) in enumerate(_TRUNK):
        if index in _POOL_BEFORE:
            window, strides = (1, 3, 3, 1), (1, 2, 2, 1)
            x = lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "VALID")
        x = lax.conv_general_dilated(
            x,
            jnp.asarray(weights[f"conv{layer}"]),
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=lax.Precision.HIGHEST,
        )
        x = jax.nn.relu(x + weights[f"bias{layer}"])
        yield x


def _unit(features):
    norm = jnp.sqrt(jnp.sum(jnp.square(features), -1, keepdims=True))
    return features / (norm + 1e-10)


@functools.lru_cache(maxsize=2)
def _read_once(path):
    return read_lpips(path)


def _read(path):
    if path.suffix == ".npz":
        if not path.is_file():
            raise UserError(f"no such file of LPIPS weights: {path}")
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    from stjax.convert.reading import read_file  # the only use of convert here

    return read_file(path)


def _plain(key):
    """The name of a weight in a whole LPIPS module, as the two files call it."""
    key = re.sub(r"^(.*\.)?(lin\d\.model\.1\.weight)$", r"\2", key)
    return re.sub(
        r"^(.*\.)?(?:features|net\.slice\d)\.(\d+\.\w+)$", r"features.\2", key
    )


def _take(found, name, shape, where):
    got = found[name].shape if name in found else "none"
    if got != shape:
        raise UserError(f"LPIPS needs {name} of shape {shape}, got {got} {where}")
    return found[name].astype(np.float32)


register("lpips", Metric(lpips))
