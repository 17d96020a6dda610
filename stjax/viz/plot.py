"""What plots share: a figure without a window, and its pixels."""

import numpy as np

# Okabe and Ito: told apart by colour-blind readers, too.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442"),
    "#999999",
)
DPI = 150


def figure(width: float, height: float):
    """A matplotlib figure of this size in inches; no global state, no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def bare(axes) -> None:
    """Takes the upper and right frame away."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def pixels(drawn) -> np.ndarray:
    """A figure as uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def unit_colours(units) -> dict[str, str]:
    """A colour for each unit, in their order."""
    return {unit: COLOURS[i % len(COLOURS)] for i, unit in enumerate(units)}
