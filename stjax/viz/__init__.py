"""Pictures: predictions, errors, attention, confusion, curves."""

from stjax.viz.attending import Gate, Relation, attention, liveliest
from stjax.viz.clips import animate, colour_difference, save_gif, save_mp4, strip
from stjax.viz.curves import frame_curves, training_curves
from stjax.viz.heat import draw_attention
from stjax.viz.look import colour
from stjax.viz.matrix import confusion
from stjax.viz.timeline import timeline

__all__ = [
    "Gate",
    "Relation",
    "animate",
    "attention",
    "colour",
    "colour_difference",
    "confusion",
    "draw_attention",
    "frame_curves",
    "liveliest",
    "save_gif",
    "save_mp4",
    "strip",
    "timeline",
    "training_curves",
]
