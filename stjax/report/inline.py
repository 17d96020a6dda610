"""Pictures as text within a page: data URIs, and drawings in the page's colours."""

import base64
import io
import re

import numpy as np

_FONT = re.compile(r"'DejaVu Sans'[^;\"]*")


def uri(data: bytes, kind: str) -> str:
    """Bytes of a file as ``data:image/kind;base64,...``."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def png(picture: np.ndarray) -> str:
    """uint8 [H, W, 3] as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", optimize=True)
    return uri(buffer.getvalue(), "png")


def gif(frames: np.ndarray, fps: float = 5.0) -> str:
    """uint8 [T, H, W, 3] as a data URI: an endless animation."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    buffer, durations = io.BytesIO(), [round(1000 / fps)] * len(images)
    durations[-1] += 800
    rest = {"append_images": images[1:], "duration": durations, "loop": 0}
    images[0].save(buffer, "gif", save_all=True, **rest)
    return uri(buffer.getvalue(), "gif")


def svg(figure) -> str:
    """A matplotlib figure as an SVG element in the colours and font of the page.

    What is black becomes ``currentColor``, the paper is transparent, and the width is
    at most that of the drawing.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "stjax"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = text.replace("#000000", "currentColor")
    text = _FONT.sub("system-ui, sans-serif", text)
    width = figure.get_figwidth() * 100
    head, _, rest = text.partition(">")
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} style="width:{width:.0f}px" role="img">{rest}'
