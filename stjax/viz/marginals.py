"""What a search believes about every slot: bars, and how they came about."""

from collections.abc import Sequence

import numpy as np

from stjax.errors import UserError
from stjax.viz.plot import bare, figure, pixels, unit_colours

_REST = "#DDDDDD"


def marginals(
    slots: Sequence[str],
    units: Sequence[str],
    probabilities: np.ndarray,
    best: Sequence[str] | None = None,
    title: str = "",
) -> np.ndarray:
    """Stacked bars, one a slot: how probable its units are.

    The figure 4 of "Spatiotemporal Fusion in 3D CNNs" (CVPR 2020). What a bar lacks to
    1 (a slot may lose all its paths under independent gates) is left grey.

    Args:
      slots: L names, in the order of the network.
      units: U names.
      probabilities: [L, U].
      best: the unit of each slot in a strategy, marked by a dot in its part.
      title: above the bars.

    Returns:
      uint8 [height, width, 3].

    Raises:
      UserError: the shapes do not fit.
    """
    values = np.nan_to_num(np.asarray(probabilities, np.float64))
    if values.shape != (len(slots), len(units)) or not len(slots):
        raise UserError(
            f"marginals of shape {values.shape}, expected {len(slots)} slots and"
            f" {len(units)} units"
        )
    places, colours = np.arange(len(slots)), unit_colours(units)
    names = _names(slots)
    room = 0.06 * max(map(len, names))
    drawn = figure(max(4.5, 1.6 + 0.19 * len(slots)), 2.9 + room)
    axes = drawn.add_subplot()
    axes.bar(places, 1.0, width=0.86, color=_REST)
    bottoms = np.cumsum(values, 1) - values
    for i, unit in enumerate(units):
        axes.bar(
            places,
            values[:, i],
            bottom=bottoms[:, i],
            width=0.86,
            color=colours[unit],
            label=unit,
        )
    if best is not None:
        index = [list(units).index(unit) for unit in best]
        middle = (bottoms + values / 2)[places, index]
        axes.plot(places, middle, "o", ms=4.5, mfc="white", mec="black", mew=0.8)
        axes.plot([], [], "o", ms=4.5, mfc="white", mec="black", label="strategy")
    _frame(axes, names, places, title)
    columns = len(units) + (best is not None)
    drawn.legend(loc="outside upper right", ncols=columns, frameon=False, fontsize=8)
    return pixels(drawn)


def _frame(axes, names: list[str], places: np.ndarray, title: str) -> None:
    axes.set_xticks(places, names, rotation=90)
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability", fontsize=9)
    axes.set_title(title, loc="left", fontsize=9)
    bare(axes)
    axes.tick_params(axis="x", length=0, labelsize=7)


def _names(slots: Sequence[str]) -> list[str]:
    """Without the folders that all of them share."""
    parts = [name.split("/") for name in slots]
    while all(len(p) > 1 for p in parts) and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    return ["/".join(p) for p in parts]


def trajectories(
    slots: Sequence[str],
    units: Sequence[str],
    steps: Sequence[int],
    probabilities: np.ndarray,
    title: str = "",
) -> np.ndarray:
    """How the probabilities of the units went in training, a panel a unit.

    Args:
      slots: L names; their lines run from dark (first) to light (last).
      units: U names.
      steps: N steps at which they were taken.
      probabilities: [N, L, U]; NaN where a slot has no such unit.
      title: above the panels.

    Returns:
      uint8 [height, width, 3].

    Raises:
      UserError: the shapes do not fit.
    """
    from matplotlib import colormaps

    values = np.asarray(probabilities, np.float64)
    if values.shape != (len(steps), len(slots), len(units)) or not values.size:
        raise UserError(
            f"trajectories of shape {values.shape}, expected {len(steps)} steps,"
            f" {len(slots)} slots and {len(units)} units"
        )
    drawn = figure(1.6 + 2.6 * len(units), 3.1)
    panels = drawn.subplots(1, len(units), sharey=True, squeeze=False)[0]
    shades = colormaps["viridis"](np.linspace(0, 0.92, len(slots)))
    few = len(slots) <= 8
    for i, (axes, unit) in enumerate(zip(panels, units, strict=True)):
        for j, name in enumerate(_names(slots)):
            label = name if few and i == 0 else None
            axes.plot(steps, values[:, j, i], color=shades[j], lw=1.2, label=label)
        axes.set_title(unit, fontsize=9)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("step", fontsize=9)
        bare(axes)
    panels[0].set_ylabel("probability", fontsize=9)
    drawn.suptitle(title, x=0.01, ha="left", fontsize=9)
    if few:
        drawn.legend(loc="outside right center", frameon=False, fontsize=8)
    else:
        _depth(drawn, panels, len(slots))
    return pixels(drawn)


def _depth(drawn, panels, count: int) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    shades = ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, 256)))
    bar = drawn.colorbar(
        ScalarMappable(Normalize(1, count), shades), ax=list(panels), pad=0.02
    )
    bar.set_label("slot", fontsize=9)
    bar.ax.tick_params(labelsize=8)
