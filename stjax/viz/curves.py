"""Curves: a training over its steps, and errors over the frames of a prediction."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stjax.errors import UserError
from stjax.viz.plot import bare, figure, pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#14b8a6", "#eab308")
"""Of lines; legible on white and on black."""
GREY = "#8b929c"
_WIDTH, _HEIGHT = 3.6, 2.5  # inches of a panel

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def panels(
    found: Mapping[str, Series],
    *,
    x_label: str = "",
    log: Sequence[str] = (),
    columns: int = 3,
) -> "Figure":
    """Small pictures side by side, each of some lines with a common legend.

    Args:
      found: title -> {label of a line: (x, y)}. Lines of one label look the same in
        all panels; those whose label starts with "~" are dashed and grey. What is
        not finite is a gap.
      x_label: below every panel.
      log: titles of panels with a logarithmic y axis (where all values allow it).
      columns: panels a row.

    Raises:
      UserError: there is no panel.
    """
    if not found:
        raise UserError("there is nothing to draw; give at least one curve")
    columns = min(columns, len(found))
    rows = -(-len(found) // columns)
    drawn = figure(_WIDTH * columns, _HEIGHT * rows + 0.3)
    axes = drawn.subplots(rows, columns, squeeze=False).ravel()
    looks = _looks(found.values())
    for axis, (title, series) in zip(axes, found.items(), strict=False):
        _panel(axis, title, series, looks, title in log)
        axis.set_xlabel(x_label, fontsize=9)
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    if len(looks) > 1:
        handles = {}
        for axis in axes:
            handles |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
        drawn.legend(
            handles.values(),
            handles.keys(),
            loc="outside upper left",
            ncols=min(len(handles), 2 * columns),
            frameon=False,
            fontsize=9,
        )
    return drawn


def _looks(all_series) -> dict[str, dict]:
    """Label -> what its line looks like."""
    names = list(dict.fromkeys(name for series in all_series for name in series))
    plain = [name for name in names if not name.startswith("~")]
    looks = {
        name: {"color": COLOURS[i % len(COLOURS)], "lw": 1.8, "zorder": 3}
        for i, name in enumerate(plain)
    }
    dashes = ("--", ":", "-.", (0, (1, 3)))
    for i, name in enumerate(n for n in names if n not in plain):
        looks[name] = {"color": GREY, "lw": 1.4, "ls": dashes[i % len(dashes)]}
    return looks


def _panel(axis, title: str, series: Series, looks: dict, log: bool) -> None:
    for name, (x, y) in series.items():
        y = np.array([math.nan if v is None else v for v in y], float)
        marker = {"marker": "o", "ms": 3.5} if len(y) <= 12 else {}
        axis.plot(x, y, label=name.removeprefix("~"), **looks[name], **marker)
        y = y[np.isfinite(y)]
        # Of less than a decade, a logarithmic axis has no numbers to read.
        log = log and y.size > 0 and y.min() > 0 and y.max() > 10 * y.min()
    if log:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
    axis.set_title(title, fontsize=10, loc="left", fontweight="bold")
    bare(axis)
    axis.grid(axis="y", alpha=0.25, lw=0.6)
    axis.locator_params(axis="x", integer=True, nbins=6)


def training_curves(
    records: Sequence[Mapping[str, float]], names: Sequence[str] = ()
) -> np.ndarray:
    """The scalars of a training over its steps.

    Args:
      records: lines of metrics.jsonl, each a dictionary with "step".
      names: which scalars, such as "train/loss"; by default loss, learning rate and
        gradient norm of the training and all that was measured on a split.

    Returns:
      uint8 [height, width, 3].

    Raises:
      UserError: none of them is there.
    """
    found = training_panels({"run": records}, names)
    return pixels(panels(found, x_label="step", log=LOGARITHMIC))


_TRAINING = ("train/loss", "train/lr", "train/grad_norm")
LOGARITHMIC = ("train/loss", "train/grad_norm")
_POINTS = 400  # of a line


def training_panels(
    runs: Mapping[str, Sequence[Mapping[str, float]]], names: Sequence[str] = ()
) -> dict[str, Series]:
    """The panels of `training_curves`, with a line for each run."""
    every = [name for records in runs.values() for r in records for name in r]
    every = [n for n in dict.fromkeys(every) if n != "step"]
    measured = [n for n in every if n.startswith(("validation/", "test/"))]
    names = names or [*(n for n in _TRAINING if n in every), *measured]
    found = {}
    for name in names:
        lines = {}
        for label, records in runs.items():
            points = [(r["step"], r[name]) for r in records if name in r]
            if points:
                lines[label] = _thinned(points)
        if lines:
            found[name] = lines
    return found


def _thinned(points: list) -> tuple[np.ndarray, np.ndarray]:
    """At most `_POINTS` points, each the mean of its neighbours."""
    x, y = (np.array(v, float) for v in zip(*points, strict=True))
    size = -(-len(x) // _POINTS)
    parts = np.arange(0, len(x), size)
    if size == 1:
        return x, y
    count = np.diff(np.append(parts, len(x)))
    return x[np.append(parts[1:], len(x)) - 1], np.add.reduceat(y, parts) / count


def frame_curves(report: Mapping[str, object]) -> np.ndarray:
    """Each metric over the predicted frames, beside the trivial predictions.

    Args:
      report: results.json, or what `stjax.evaluate` of a predictor returns.

    Returns:
      uint8 [height, width, 3].

    Raises:
      UserError: it has no curves (a recogniser's).
    """
    return pixels(panels(frame_panels(report), x_label="predicted frame"))


def frame_panels(report: Mapping[str, object], label: str = "model") -> dict:
    """The panels of `frame_curves`."""
    found = {}
    for name, curve in report.get("per_frame", {}).items():
        frames = np.arange(1, len(curve) + 1)
        found[name] = {label: (frames, curve)}
        for row, curves in report.get("baselines_per_frame", {}).items():
            found[name][f"~{row}"] = (frames, curves[name])
    return found
