"""Pictures: predictions as strips and animations, confusion as a matrix."""

from stjax.viz.clips import animate, colour_difference, save_gif, strip
from stjax.viz.look import colour
from stjax.viz.matrix import confusion

__all__ = ["animate", "colour", "colour_difference", "confusion", "save_gif", "strip"]
