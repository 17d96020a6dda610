"""Pictures of predictions: a labelled strip of frames, and an animation."""

from collections.abc import Sequence

import numpy as np

from stjax import media
from stjax.errors import UserError
from stjax.viz.look import EDGE, FAINT, INK, PAPER, colour, font

_GAP, _MARGIN, _NUMBERS = 4, 14, 24
_CELL = 72  # pixels: frames are enlarged to at least this
_LARGEST = 192


def colour_difference(difference: np.ndarray, limit: float) -> np.ndarray:
    """A signed difference [..., C], mean over channels: blue -limit, red +limit."""
    mean = np.mean(difference, -1, keepdims=True)
    return colour(mean, (-limit, limit), "RdBu_r")


def _rescale(frame: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """To (height, width): whole repeats when larger, averages when smaller."""
    from PIL import Image

    how = Image.Resampling.BOX
    if cell[0] >= frame.shape[0]:
        how = Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(frame).resize(cell[::-1], how))


def _cell(height: int, width: int, cell: int) -> tuple[int, int]:
    """The size a frame is drawn at: whole multiples, unless it is too large."""
    factor = max(1, -(-cell // max(height, width)))
    if max(height, width) * factor > _LARGEST:
        factor = _LARGEST / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _pick(count: int, most: int) -> np.ndarray:
    """Evenly spaced indices, first and last among them."""
    return np.unique(np.round(np.linspace(0, count - 1, min(count, most))).astype(int))


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
    picks = [_pick(len(input), columns)]
    picks += [_pick(len(prediction), columns)] * (len(rows) - 1)
    return _sheet(rows, picks, _cell(*prediction.shape[1:3], _CELL), note)


def _sheet(rows: list, picks: list, cell: tuple[int, int], note: str) -> np.ndarray:
    """Draws the picked frames of rows (label, frames, first number) and a note."""
    from PIL import Image, ImageDraw

    ch, cw = cell
    label, small = font(16), font(12)
    left = 30 + max(round(label.getlength(name)) for name, _, _ in rows)
    width = left + max(map(len, picks)) * (cw + _GAP) + _MARGIN
    width = max(width, left + round(small.getlength(note)) + _MARGIN)
    # Frame numbers stand over the input and over the first row of the future.
    height = 2 * _MARGIN + 2 * _NUMBERS + len(rows) * (ch + _GAP) + (22 if note else 0)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = _MARGIN - 6
    for row, (name, frames, first) in enumerate(rows):
        xs = left + np.arange(len(picks[row])) * (cw + _GAP)
        if row < 2:
            for x, t in zip(xs, picks[row], strict=True):
                at = (x + cw / 2, y + _NUMBERS - 10)
                draw.text(at, str(first + t), FAINT, small, "mm")
            y += _NUMBERS
        draw.text((left - 14, y + ch / 2), name, INK, label, "rm")
        for x, t in zip(xs, picks[row], strict=True):
            if t < len(frames):
                picture = Image.fromarray(_rescale(frames[t], (ch, cw)))
                sheet.paste(picture, (int(x), y))
            draw.rectangle((x - 1, y - 1, x + cw, y + ch), outline=EDGE)
        y += ch + _GAP
    draw.text((left, y + 6), note, FAINT, small, "la")
    return np.asarray(sheet)


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
    cell = _cell(*prediction.shape[1:3], 160)
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
            sheet.paste(Image.fromarray(_rescale(picture, cell)), (x, 30))
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
