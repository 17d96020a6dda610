"""Pictures of predictions: a labelled strip of frames, and an animation."""

from collections.abc import Sequence

import numpy as np

from stjax import media
from stjax.errors import UserError
from stjax.viz.look import EDGE, FAINT, INK, PAPER, colour, font
from stjax.viz.sheet import Row, cell_size, pick, rescale, sheet

_CELL = 72  # pixels: frames are enlarged to at least this


def colour_difference(difference: np.ndarray, limit: float) -> np.ndarray:
    """A signed difference [..., C], mean over channels: blue -limit, red +limit."""
    mean = np.mean(difference, -1, keepdims=True)
    return colour(mean, (-limit, limit), "RdBu_r")


def _as_clip(name: str, frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.ndim != 4:
        raise UserError(f"{name} has shape {frames.shape}, expected [T, H, W, C]")
    return frames


def _range(clips: Sequence[np.ndarray]) -> tuple[float, float]:
    """What black and white mean: the type's range for pixels, else what occurs."""
    if clips[0].dtype == np.uint8:
        return 0.0, 255.0
    values = np.concatenate([c[np.isfinite(c)] for c in clips])
    if values.size == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _rows(
    input: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray | None,
    value_range: tuple[float, float] | None,
    cmap: str | None,
) -> tuple[list[tuple[str, np.ndarray, int]], str]:
    """(label, RGB frames, number of the first frame) a row, and a note."""
    clips = [input] if target is None else [input, target]
    low_high = value_range or _range(clips)
    start = len(input) + 1
    rows = [("Input", colour(input, low_high, cmap), 1)]
    if target is not None:
        rows.append(("Truth", colour(target, low_high, cmap), start))
    rows.append(("Prediction", colour(prediction, low_high, cmap), start))
    if target is None:
        return rows, ""
    difference = np.float32(prediction[: len(target)]) - np.float32(target)
    size = np.abs(difference[np.isfinite(difference)])
    # Nearly all errors fit; never so far enlarged that noise looks like an error.
    most = low_high[1] - low_high[0]
    limit = np.quantile(size, 0.998) if size.size else 0.0
    limit = max(min(limit, most), 0.05 * most, 1e-12)
    rows.append(("Difference", colour_difference(difference, limit), start))
    note = f"Difference = prediction - truth: blue -{limit:.3g}, red +{limit:.3g}"
    return rows, note


def strip(
    input: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray | None = None,
    *,
    value_range: tuple[float, float] | None = None,
    cmap: str | None = None,
    columns: int = 10,
) -> np.ndarray:
    """One picture of one prediction: rows Input, Truth, Prediction, Difference.

    Frames are enlarged by whole factors, so that single pixels stay visible, and
    numbered from 1, the first input frame. Of a long clip, evenly spaced frames show.

    Args:
      input: [T_in, H, W, C].
      prediction: [T_out, H, W, C], in the units of the input.
      target: [T, H, W, C] with T <= T_out, if the truth is known.
      value_range: darkest and brightest value; by default 0 to 255 for uint8, 0 to 1
        if all values lie there, else the range of the values.
      cmap: a matplotlib colour map for physical values; see `colour`.
      columns: at most this many frames a row.

    Returns:
      uint8 [height, width, 3].
    """
    input, prediction = _as_clip("input", input), _as_clip("prediction", prediction)
    if target is not None:
        target = _as_clip("target", target)[: len(prediction)]
    rows, note = _rows(input, prediction, target, value_range, cmap)
    cell = cell_size(*prediction.shape[1:3], _CELL)
    drawn = []
    for row, (name, frames, first) in enumerate(rows):
        picks = pick(len(prediction) if row else len(input), columns)
        pictures = [frames[t] if t < len(frames) else None for t in picks]
        # Frame numbers stand over the input and over the first row of the future.
        over = [str(first + t) for t in picks] if row < 2 else []
        drawn.append(Row(name, pictures, over))
    return sheet(drawn, cell, note)


def animate(
    input: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray | None = None,
    *,
    value_range: tuple[float, float] | None = None,
    cmap: str | None = None,
) -> np.ndarray:
    """Frames of an animation: truth, prediction and difference side by side.

    While the input runs, truth and prediction both show it. Arguments as `strip`.

    Returns:
      uint8 [T_in + T_out, height, width, 3].
    """
    input, prediction = _as_clip("input", input), _as_clip("prediction", prediction)
    if target is not None:
        target = _as_clip("target", target)[: len(prediction)]
    rows, _ = _rows(input, prediction, target, value_range, cmap)
    cell = cell_size(*prediction.shape[1:3], 160)
    total = len(input) + len(prediction)
    return np.stack([_moment(rows, len(input), t, cell) for t in range(total)])


def _moment(rows: list, t_in: int, t: int, cell: tuple[int, int]) -> np.ndarray:
    """Frame t of an animation."""
    from PIL import Image, ImageDraw

    (_, input, _), *panels = rows
    (ch, cw), future = cell, t - t_in
    label, small = font(15), font(12)
    wide = max(cw, 92)  # room for the longest label
    sheet = Image.new("RGB", (12 + len(panels) * (wide + 12), ch + 60), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (name, frames, _) in enumerate(panels):
        x = 12 + i * (wide + 12)
        draw.text((x + wide / 2, 16), name, INK, label, "mm")
        x += (wide - cw) // 2
        picture = None
        if future < 0:
            picture = None if name == "Difference" else input[t]
        elif future < len(frames):
            picture = frames[future]
        if picture is not None:
            sheet.paste(Image.fromarray(rescale(picture, cell)), (x, 30))
        draw.rectangle((x - 1, 29, x + cw, 30 + ch), outline=EDGE)
    what = "input" if future < 0 else "predicted"
    draw.text((12, 46 + ch), f"frame {t + 1}: {what}", FAINT, small, "lm")
    return np.asarray(sheet)


def save_gif(
    path: str,
    input: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray | None = None,
    *,
    fps: float = 5.0,
    **options,
) -> None:
    """Writes `animate` of one clip as .gif (arguments as there)."""
    media.write_gif(path, animate(input, prediction, target, **options), fps)


def save_mp4(
    path: str,
    input: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray | None = None,
    *,
    fps: float = 5.0,
    **options,
) -> None:
    """Writes `animate` of one clip as H.264 .mp4 (arguments as there)."""
    media.write_mp4(path, animate(input, prediction, target, **options), fps)
