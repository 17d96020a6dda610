"""Rows of small pictures on one sheet, with a label each."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from stjax.viz.look import EDGE, FAINT, INK, PAPER, font

_GAP, _MARGIN, _LINE = 4, 14, 24
_LARGEST = 192  # pixels of a cell


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a sheet.

    Attributes:
      label: stands left of it.
      pictures: uint8 [h, w, 3] each; None leaves a cell empty.
      over: a text above every cell, or none at all.
      under: a text below every cell, or none at all.
    """

    label: str
    pictures: Sequence[np.ndarray | None]
    over: Sequence[str] = ()
    under: Sequence[str] = ()


def rescale(frame: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """To (height, width): whole repeats when larger, averages when smaller."""
    from PIL import Image

    how = Image.Resampling.BOX
    if cell[0] >= frame.shape[0]:
        how = Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(frame).resize(cell[::-1], how))


def cell_size(height: int, width: int, cell: int) -> tuple[int, int]:
    """The size a frame is drawn at: whole multiples, unless it is too large."""
    factor = max(1, -(-cell // max(height, width)))
    if max(height, width) * factor > _LARGEST:
        factor = _LARGEST / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def pick(count: int, most: int) -> np.ndarray:
    """Evenly spaced indices, first and last among them."""
    return np.unique(np.round(np.linspace(0, count - 1, min(count, most))).astype(int))


def sheet(rows: Sequence[Row], cell: tuple[int, int], note: str = "") -> np.ndarray:
    """Draws rows of pictures and a note below them.

    Args:
      rows: from top to bottom.
      cell: (height, width) of every picture in pixels.
      note: one line.

    Returns:
      uint8 [height, width, 3].
    """
    from PIL import Image, ImageDraw

    ch, cw = cell
    label, small = font(16), font(12)
    left = 30 + max(round(label.getlength(row.label)) for row in rows)
    width = left + max(len(row.pictures) for row in rows) * (cw + _GAP) + _MARGIN
    width = max(width, left + round(small.getlength(note)) + _MARGIN)
    lines = sum(bool(row.over) + bool(row.under) for row in rows)
    height = 2 * _MARGIN + lines * _LINE + len(rows) * (ch + _GAP) + (22 if note else 0)
    paper = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(paper)
    y = _MARGIN - 6
    for row in rows:
        xs = left + np.arange(len(row.pictures)) * (cw + _GAP)
        if row.over:
            _texts(draw, xs + cw / 2, y + _LINE - 10, row.over, small)
            y += _LINE
        draw.text((left - 14, y + ch / 2), row.label, INK, label, "rm")
        for x, picture in zip(xs, row.pictures, strict=True):
            if picture is not None:
                paper.paste(Image.fromarray(rescale(picture, cell)), (int(x), y))
            draw.rectangle((x - 1, y - 1, x + cw, y + ch), outline=EDGE)
        y += ch + _GAP
        if row.under:
            _texts(draw, xs + cw / 2, y + _LINE - 14, row.under, small)
            y += _LINE
    draw.text((left, y + 6), note, FAINT, small, "la")
    return np.asarray(paper)


def _texts(draw, xs: np.ndarray, y: float, texts: Sequence[str], small) -> None:
    for x, text in zip(xs, texts, strict=True):
        draw.text((x, y), text, FAINT, small, "mm")
