"""What a video shows over time, as a picture."""

import math
from pathlib import Path

import numpy as np

from stjax.sliding import Timeline
from stjax.viz.look import EDGE, FAINT, INK, PAPER, colour, font

_WIDTH, _ROW, _MARGIN = 860, 26, 14  # pixels; the width is that of the time axis
_LONGEST = 24  # characters of a class name


def timeline(found: Timeline, top: int = 8) -> np.ndarray:
    """Draws the probabilities of the classes over time, below frames of the video.

    A row a class, those with the largest probability anywhere first; white 0, dark 1.
    A line below marks where a class is the most probable one. Of several windows in
    one column the largest value is shown.

    Args:
      found: of `stjax.sliding.slide`.
      top: at most so many classes.

    Returns:
      uint8 [height, width, 3].
    """
    from PIL import Image, ImageDraw

    small, label = font(12), font(16)
    shown = np.argsort(-found.probabilities.max(0), kind="stable")[:top]
    names = [_short(found.classes[k]) for k in shown]
    left = _MARGIN + 8 + max(round(small.getlength(name)) for name in names)
    film = 82 if found.pictures else 0
    above = 44 + film
    height = above + _ROW * len(shown) + 44
    sheet = Image.new("RGB", (left + _WIDTH + 2 * _MARGIN, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((left, 10), Path(found.source).name, INK, label, "la")
    count = len(found.times)
    note = f"{count} window{'s' * (count > 1)}; white 0 %, dark 100 %, line: the best"
    draw.text((left + _WIDTH, 13), note, FAINT, small, "ra")
    _film(sheet, found, left, 40)
    values, best = _columns(found)
    for row, (k, name) in enumerate(zip(shown, names, strict=True)):
        y = above + row * _ROW
        cells = colour(values[None, :, k, None], cmap="Blues").repeat(_ROW - 8, 0)
        sheet.paste(Image.fromarray(cells), (left, y))
        box = left - 1, y - 1, left + _WIDTH, y + _ROW - 8
        draw.rectangle(box, outline=EDGE)
        for x in np.flatnonzero(best == k):
            draw.line((left + x, y + _ROW - 6, left + x, y + _ROW - 4), INK)
        draw.text((left - 8, y + _ROW // 2 - 4), name, INK, small, "rm")
    _axis(draw, found, left, above + len(shown) * _ROW, small)
    return np.asarray(sheet)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1].rstrip() + "…"


def _columns(found: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """Of each column of pixels: probabilities [width, K] and the best class."""
    begin, end = found.borders[0], found.borders[-1]
    edges = np.linspace(begin, end, _WIDTH + 1)
    places = np.searchsorted(found.borders[1:-1], edges, side="right")
    values = np.stack(
        [
            found.probabilities[a : b + 1].max(0)
            for a, b in zip(places[:-1], places[1:], strict=True)
        ]
    )
    middles = np.searchsorted(found.borders[1:-1], (edges[1:] + edges[:-1]) / 2)
    return values, found.best[middles]


def _film(sheet, found: Timeline, left: int, y: int) -> None:
    """Frames side by side, each the one nearest to the time of its place."""
    from PIL import Image

    if not found.pictures:
        return
    times = np.array([time for time, _ in found.pictures])
    widest = max(picture.shape[1] for _, picture in found.pictures)
    slots = max(1, _WIDTH // (widest + 4))
    begin, end = found.borders[0], found.borders[-1]
    for slot in range(slots):
        share = (slot + 0.5) / slots
        nearest = int(np.abs(times - (begin + share * (end - begin))).argmin())
        image = Image.fromarray(found.pictures[nearest][1])
        sheet.paste(image, (round(left + share * _WIDTH - image.width / 2), y))


def _axis(draw, found: Timeline, left: int, y: int, small) -> None:
    """Ticks at round times."""
    begin, end = float(found.borders[0]), float(found.borders[-1])
    for time in ticks(begin, end, found.unit):
        x = left + (time - begin) / max(end - begin, 1e-9) * _WIDTH
        draw.line((x, y, x, y + 5), FAINT)
        draw.text((x, y + 8), _clock(time, found.unit, end), INK, small, "ma")


def ticks(begin: float, end: float, unit: str = "s") -> list[float]:
    """About eight round numbers; of long times minutes and hours and their parts."""
    rough = max(end - begin, 1e-6) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [m * power for m in (1, 2, 5, 10)]
    if rough > 10 and unit == "s":
        steps = [15, 30, 60, 120, 300, 600, 900, 1800, 3600]
        steps += [3600 * n for n in (2, 3, 6, 12, 24, 24 * 7)]
    step = min(steps, key=lambda s: abs(math.log(s / rough)))
    first, last = math.ceil(begin / step - 1e-6), math.floor(end / step + 1e-6)
    return [n * step for n in range(first, last + 1)]


def _clock(time: float, unit: str, end: float) -> str:
    if unit != "s":
        return f"{time:g}"
    if end < 60:
        return f"{round(time, 3):g} s"
    seconds = round(time)
    hours, rest = divmod(seconds, 3600)
    text = f"{rest // 60}:{rest % 60:02d}"
    return text if not hours else f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
