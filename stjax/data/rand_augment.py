"""RandAugment of clips: a few random operations, the same on all frames.

Source: Cubuk et al., "RandAugment", 2019, in the form of timm (pytorch-image-models,
``rand-m7-n4-mstd0.5-inc1``) that PySlowFast and UniFormer use: each of n operations,
drawn with replacement, is applied with probability 1/2, at a level drawn around m.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from stjax.errors import UserError, unknown

_HIGHEST = 10.0  # level
_SAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
Drawn = Sequence[tuple[str, float]]  # operations with their arguments


def _lookup(image: Image.Image, table: np.ndarray) -> Image.Image:
    values = np.clip(table, 0, 255).astype(int).tolist()
    return image.point(values * len(image.getbands()))


def _posterize(image, bits, **_):
    kept = 256 - 2 ** (8 - int(bits))  # 0 bits leave black
    return _lookup(image, np.arange(256) & kept)


def _solarize(image, threshold, **_):
    x = np.arange(256)
    return _lookup(image, np.where(x < threshold, x, 255 - x))


def _solarize_add(image, add, **_):
    x = np.arange(256)
    return _lookup(image, np.where(x < 128, x + add, x))


def _affine(matrix: Callable) -> Callable:
    def apply(image, argument, **how):
        how = {"resample": how["resample"], "fillcolor": how["fill"]}
        data = matrix(argument, *image.size)
        return image.transform(image.size, Image.Transform.AFFINE, data, **how)

    return apply


def _rotate(image, degrees, **how):
    return image.rotate(degrees, resample=how["resample"], fillcolor=how["fill"])


def _enhance(kind: type) -> Callable:
    return lambda image, factor, **_: kind(image).enhance(factor)


def _plain(function: Callable) -> Callable:
    return lambda image, _, **__: function(image)


def _distance(level: float) -> float:
    return 0.9 * level  # from 1, the factor of no change


def _factor(level: float) -> float:
    return 1.8 * level + 0.1


@dataclasses.dataclass(frozen=True)
class _Operation:
    """What it does, and its argument at a level in [0, 1].

    ``falling`` is the argument where the level is no strength (without ``inc1``).
    """

    apply: Callable[..., Image.Image]
    argument: Callable[[float], float] = lambda level: 0.0
    signed: bool = False
    base: float = 0.0
    falling: Callable[[float], float] | None = None
    weight: float = 0.0


def _enhancement(kind: type, weight: float) -> _Operation:
    return _Operation(_enhance(kind), _distance, True, 1.0, _factor, weight)


# In timm's order; weights of its set w0.
OPERATIONS = {
    "auto_contrast": _Operation(_plain(ImageOps.autocontrast), weight=0.025),
    "equalize": _Operation(_plain(ImageOps.equalize), weight=0.005),
    "invert": _Operation(_plain(ImageOps.invert)),
    "rotate": _Operation(_rotate, lambda a: 30 * a, True, weight=0.3),
    "posterize": _Operation(
        _posterize, lambda a: 4 - int(4 * a), falling=lambda a: int(4 * a)
    ),
    "solarize": _Operation(
        _solarize,
        lambda a: 256 - int(256 * a),
        falling=lambda a: int(256 * a),
        weight=0.005,
    ),
    "solarize_add": _Operation(_solarize_add, lambda a: int(110 * a), weight=0.005),
    "color": _enhancement(ImageEnhance.Color, 0.025),
    "contrast": _enhancement(ImageEnhance.Contrast, 0.005),
    "brightness": _enhancement(ImageEnhance.Brightness, 0.005),
    "sharpness": _enhancement(ImageEnhance.Sharpness, 0.025),
    "shear_x": _Operation(
        _affine(lambda s, w, h: (1, s, 0, 0, 1, 0)), lambda a: 0.3 * a, True, weight=0.2
    ),
    "shear_y": _Operation(
        _affine(lambda s, w, h: (1, 0, 0, s, 1, 0)), lambda a: 0.3 * a, True, weight=0.2
    ),
    "translate_x": _Operation(
        _affine(lambda s, w, h: (1, 0, s * w, 0, 1, 0)),
        lambda a: 0.45 * a,
        True,
        weight=0.1,
    ),
    "translate_y": _Operation(
        _affine(lambda s, w, h: (1, 0, 0, 0, 1, s * h)),
        lambda a: 0.45 * a,
        True,
        weight=0.1,
    ),
}


class RandAugment:
    """Random operations on a clip, a function of the clip and the generator alone.

    ``posterize`` keeps at most 4 bits, even at level 0 (timm). ``inc0`` means what it
    says; in timm it is the same as ``inc1``.
    """

    def __init__(
        self,
        spec: str,
        interpolation: str = "bicubic",
        fill: Sequence[int] = (128,) * 3,
    ):
        """Reads the text form.

        Args:
          spec: ``rand`` and, joined by ``-``: ``m`` level, 0 to 10 (10); ``n``
            operations (2); ``mstd`` standard deviation of the level (0); ``inc1`` for
            operations whose strength grows with the level; ``w0`` for timm's weights
            of the operations, drawn without replacement then.
          interpolation: of what moves pixels, ``"bicubic"`` (UniFormer) or
            ``"bilinear"``.
          fill: colour of what moves in from outside; the video projects' grey.

        Raises:
          UserError: a part of the text that means nothing.
        """
        if interpolation not in _SAMPLING:
            raise unknown("interpolation", interpolation, _SAMPLING)
        self.spec = spec
        values = _parse(spec)
        self.magnitude, self.layers = values["m"], int(values["n"])
        self.std, self.increasing = values["mstd"], bool(values["inc"])
        self.weighted = values["w"] is not None
        self._how = {"resample": _SAMPLING[interpolation], "fill": tuple(fill)}

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[T, H, W, 3] uint8 → the same shape."""
        return self.apply(frames, self.draw(rng))

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """The operations for one clip, in order, each with its argument."""
        names, weights = list(OPERATIONS), None
        if self.weighted:
            weights = np.array([o.weight for o in OPERATIONS.values()])
            weights /= weights.sum()
        chosen = rng.choice(names, self.layers, replace=not self.weighted, p=weights)
        return [
            (str(name), self._argument(OPERATIONS[name], rng))
            for name in chosen
            if rng.random() < 0.5
        ]

    def _argument(self, operation: _Operation, rng: np.random.Generator) -> float:
        level = self.magnitude
        if self.std:
            level = rng.normal(level, self.std)
        level = min(max(level, 0.0), _HIGHEST) / _HIGHEST
        if operation.falling and not self.increasing:
            return operation.falling(level)
        value = operation.argument(level)
        if operation.signed and rng.random() < 0.5:
            value = -value
        return operation.base + value

    def apply(self, frames: np.ndarray, operations: Drawn) -> np.ndarray:
        """Operations with given arguments on all frames, [T, H, W, 3] uint8."""
        if not operations:
            return frames
        out = np.empty_like(frames)
        for frame, result in zip(frames, out, strict=True):
            image = Image.fromarray(frame)
            for name, argument in operations:
                image = OPERATIONS[name].apply(image, argument, **self._how)
            result[:] = image
        return out


def _parse(spec: str) -> dict[str, float | None]:
    values = {"m": _HIGHEST, "n": 2, "mstd": 0.0, "inc": 0, "w": None}
    kind, *parts = spec.split("-")
    if kind != "rand":
        raise UserError(
            f"rand_augment={spec!r}: expected a text such as rand-m7-n4-mstd0.5-inc1"
        )
    for part in parts:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", part)
        if not match or match[1] not in values:
            raise unknown(f"part of rand_augment={spec!r},", part, values)
        values[match[1]] = float(match[2])
    if values["m"] > _HIGHEST or values["w"] not in (None, 0):
        raise UserError(f"rand_augment={spec!r}: m is at most 10, and w can be 0 alone")
    return values
