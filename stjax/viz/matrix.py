"""A confusion matrix as a picture."""

from collections.abc import Sequence

import numpy as np

from stjax.errors import UserError
from stjax.viz.look import EDGE, FAINT, INK, PAPER, colour, font

_NUMBERED = 20  # up to so many classes each cell has its number
_LONGEST = 24  # characters of a class name
_LARGEST = 1000  # pixels of the matrix, up to as many classes
_LINE = 15  # pixels a name needs


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Draws a confusion matrix: rows are the truth, columns the prediction.

    Each row is normalised: a cell is the share of the clips of a class that were taken
    for another (for itself on the diagonal), white 0, dark 1, in percent where there
    are up to 20 classes. Of many classes, only some are named. A class without clips
    is left grey.

    Args:
      matrix: [K, K] counts, as of `stjax.metrics.confusion_matrix`.
      classes: K names.

    Returns:
      uint8 [height, width, 3].

    Raises:
      UserError: the shapes do not fit.
    """
    matrix, k = np.asarray(matrix, np.float64), len(classes)
    if matrix.shape != (k, k) or k == 0:
        raise UserError(
            f"the matrix has shape {matrix.shape}, expected [K, K] for {k} classes"
        )
    counts = matrix.sum(1)
    share = matrix / np.maximum(counts, 1)[:, None]
    share[counts == 0] = np.nan
    cell = 48 if k <= _NUMBERED else max(1, min(24, _LARGEST // k))
    return _draw(share, matrix, _names(classes), cell)


def _names(classes: Sequence[str]) -> list[str]:
    short = _LONGEST - 1
    return [c if len(c) <= _LONGEST else c[:short].rstrip() + "…" for c in classes]


def _draw(
    share: np.ndarray, matrix: np.ndarray, names: list[str], cell: int
) -> np.ndarray:
    from PIL import Image, ImageDraw

    k, label, small = len(names), font(16), font(12)
    room = 22 + max(round(small.getlength(name)) for name in names)
    left, top, side = max(room, 60), room + 56, k * cell
    width = max(left + side + 14, left + 260)
    sheet = Image.new("RGB", (width, top + side + 14), PAPER)
    draw = ImageDraw.Draw(sheet)
    cells = colour(share[..., None], cmap="Blues").repeat(cell, 0).repeat(cell, 1)
    sheet.paste(Image.fromarray(cells), (left, top))
    _grid(draw, left, top, k, cell)
    if k <= _NUMBERED:
        _numbers(draw, share, left, top, cell, small)
    # Names of neighbours must not touch.
    for i in range(0, k, -(-_LINE // cell)):
        middle = (i + 0.5) * cell
        draw.text((left - 8, top + middle), names[i], INK, small, "rm")
        _upright(sheet, names[i], (left + middle, top - 8), small)
    draw.text((left, 10), "Prediction", INK, label, "la")
    draw.text((left - 8, top - 16), "Truth", INK, label, "rm")
    right, clips = np.trace(matrix), matrix.sum()
    note = f"{clips:.0f} clips, {right / max(clips, 1):.1%} right"
    draw.text((left, 32), note, FAINT, small, "la")
    return np.asarray(sheet)


def _grid(draw, left: int, top: int, k: int, cell: int) -> None:
    side = k * cell
    if cell >= 8:  # finer cells would be all lines
        for at in range(cell, side, cell):
            draw.line((left + at, top, left + at, top + side - 1), EDGE)
            draw.line((left, top + at, left + side - 1, top + at), EDGE)
    draw.rectangle((left - 1, top - 1, left + side, top + side), outline=EDGE)


def _numbers(draw, share: np.ndarray, left: int, top: int, cell: int, small) -> None:
    """Percent in each cell that is not empty."""
    for (row, column), value in np.ndenumerate(share):
        if value > 0:  # NaN is not
            at = left + (column + 0.5) * cell, top + (row + 0.5) * cell
            ink = PAPER if value > 0.5 else INK
            draw.text(at, f"{100 * value:.0f}", ink, small, "mm")


def _upright(sheet, text: str, at: tuple[float, float], small) -> None:
    """Text that reads upwards from y, centred on x."""
    from PIL import Image, ImageDraw

    length, height = round(small.getlength(text)) + 2, round(1.4 * small.size)
    strip = Image.new("RGB", (length, height), PAPER)
    ImageDraw.Draw(strip).text((0, height / 2), text, INK, small, "lm")
    x, y = round(at[0] - height / 2), round(at[1])
    sheet.paste(strip.rotate(90, expand=True), (x, y - length))
