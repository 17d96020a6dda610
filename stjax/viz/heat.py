"""Draws what a model attends to over the frames of its clip."""

from collections.abc import Sequence

import numpy as np

from stjax.errors import UserError
from stjax.viz.attending import Gate, Relation
from stjax.viz.look import EDGE, PAPER, colour
from stjax.viz.sheet import Row, cell_size, pick, rescale, sheet

_CELL = 88  # pixels
_MORE, _LESS = np.float32((255, 106, 0)), np.float32((0, 120, 255))
_QUERY = (0, 230, 118)


def draw_attention(
    found: Sequence[Gate | Relation],
    clip: np.ndarray,
    *,
    value_range: tuple[float, float] | None = None,
    layers: int = 4,
    columns: int = 8,
) -> np.ndarray:
    """Draws the result of `stjax.viz.attention`.

    Of relations, a row is a layer and a cell a time step of it: the frame in grey, in
    orange the weight that the query (green square) gives to every place, the brightest
    being the row's largest (blue: negative); below, the share of all weight that the
    time step gets. Heads are averaged.

    Of a TAU: for the first block, whose channels belong to frames, the input and below
    it the static attention (root mean square over the channels of a frame, yellow the
    largest) and the mean dynamic factor. Then for all blocks the static attention, and
    the dynamic factors in order of size, from 0 (bottom) to 1.

    Args:
      found: of one clip.
      clip: that clip, [T, H, W, C].
      value_range: what black and white mean; by default the range of the clip.
      layers: at most so many rows of relations, evenly spaced.
      columns: at most so many cells a row.

    Returns:
      uint8 [height, width, 3].
    """
    clip = np.asarray(clip)
    if clip.ndim != 4 or not found:
        raise UserError(
            f"got {len(found)} layers and a clip of shape {clip.shape}; expected one"
            " layer or more, and [T, H, W, C]"
        )
    finite = clip[np.isfinite(clip)]
    low_high = value_range or (float(finite.min()), float(finite.max()))
    frames = colour(clip, low_high)
    relations = [item for item in found if isinstance(item, Relation)]
    if relations:
        shown = [relations[i] for i in pick(len(relations), layers)]
        return _relations(shown, frames, columns)
    return _gates(found, frames, columns)


def _relations(
    found: Sequence[Relation], frames: np.ndarray, columns: int
) -> np.ndarray:
    cell = cell_size(*frames.shape[1:3], _CELL)
    rows = [_relation(item, frames, columns, cell) for item in found]
    note = "orange: weight given by the green cell; below: share of the time step"
    return sheet(rows, cell, note)


def _relation(item: Relation, frames: np.ndarray, columns: int, cell) -> Row:
    weights = _spread(np.asarray(item.weights, np.float32).mean(0), item.grid)
    scale = max(float(np.abs(weights).max()), 1e-12)
    steps = len(weights)
    shown = pick(steps, columns)
    if item.query[0] not in shown:
        shown[np.abs(shown - item.query[0]).argmin()] = item.query[0]
    cells = []
    for t in shown:
        frame = frames[int((t + 0.5) * len(frames) / steps)]
        picture = _heat(rescale(frame, cell), weights[t] / scale, cell)
        if t == item.query[0]:
            _mark(picture, item.query[1:], item.grid[1:])
        cells.append(picture)
    total = weights.sum()
    fair = (weights >= 0).all() and total > 0
    under = [f"{weights[t].sum() / total:.0%}" for t in shown] if fair else []
    return Row(_short(item.name), cells, under=under)


def _spread(weights: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Weights of pooled keys [T, h, w] in the cells that each stands for."""
    by = [max(1, n // m) for n, m in zip(grid[1:], weights.shape[1:], strict=True)]
    found = np.zeros(grid, weights.dtype)
    wide = weights.repeat(by[0], 1).repeat(by[1], 2) / (by[0] * by[1])
    found[:, : wide.shape[1], : wide.shape[2]] = wide
    return found


def _heat(frame: np.ndarray, weights: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """Weights in [-1, 1] over a frame in grey."""
    from PIL import Image

    grey = np.float32(frame).mean(-1, keepdims=True) * 0.55 + 25
    image = Image.fromarray(np.float32(weights))
    wide = np.asarray(image.resize(cell[::-1], Image.Resampling.NEAREST))[..., None]
    tint = np.where(wide >= 0, _MORE, _LESS)
    strength = 0.8 * np.sqrt(np.abs(wide))  # so that small weights are seen, too
    return np.uint8(np.round(grey * (1 - strength) + tint * strength))


def _mark(picture: np.ndarray, query: Sequence[int], grid: Sequence[int]) -> None:
    """A frame around the query's cell."""
    height, width = picture.shape[:2]
    top, bottom = (round((query[0] + i) * height / grid[0]) for i in (0, 1))
    left, right = (round((query[1] + i) * width / grid[1]) for i in (0, 1))
    inner = np.s_[top + 2 : bottom - 2, left + 2 : right - 2]
    kept = picture[inner].copy()
    picture[top : max(bottom, top + 2), left : max(right, left + 2)] = _QUERY
    picture[inner] = kept


def _gates(found: Sequence[Gate], frames: np.ndarray, columns: int) -> np.ndarray:
    cell = cell_size(*frames.shape[1:3], _CELL)
    rows, first = [], found[0]
    if first.frames == len(frames):
        shown = pick(first.frames, columns)
        static = first.static.reshape(*first.static.shape[:2], first.frames, -1)
        maps = _maps(np.moveaxis(static, 2, 0))
        means = first.dynamic.reshape(first.frames, -1).mean(-1)
        over = [str(t + 1) for t in shown]
        under = [f"x {means[t]:.2f}" for t in shown]
        rows += [
            Row("Input", [frames[t] for t in shown], over),
            Row("Block 1", [maps[t] for t in shown], under=under),
        ]
    blocks = pick(len(found), columns)
    static = _maps([found[i].static for i in blocks])
    rows += [
        Row("Static", static, [f"block {i + 1}" for i in blocks]),
        Row("Dynamic", [_sorted(found[i].dynamic, cell) for i in blocks]),
    ]
    return sheet(rows, cell, "static: size over channels; dynamic: factors, 0 to 1")


def _maps(static: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The root mean square over channels [h, w, C], in colours."""
    size = [np.sqrt(np.mean(np.square(np.float32(s)), -1)) for s in static]
    return [colour(s[..., None], (0.0, max(s.max(), 1e-12)), "viridis") for s in size]


def _sorted(values: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """A filled curve of values in [0, 1], in order."""
    height, width = cell
    order = np.sort(values)
    at = np.minimum(np.arange(width) * len(order) // width, len(order) - 1)
    level = (1 - order[at]) * height
    picture = np.full((height, width, 3), PAPER, np.uint8)
    picture[height // 2] = EDGE
    picture[np.arange(height)[:, None] >= level[None]] = (88, 130, 193)
    return picture


def _short(name: str) -> str:
    """A path without the parts that say nothing."""
    dull = ("block", "attn", "spatial_gating_unit", "hid", "model")
    return "/".join(p for p in name.split("/") if p not in dull) or name
