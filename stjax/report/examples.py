"""What the model of a run makes of test clips: pictures for its report."""

import tempfile
from pathlib import Path

import numpy as np

from stjax import viz
from stjax.data.base import LabelSpec
from stjax.errors import UserError
from stjax.loading import load
from stjax.report import inline
from stjax.report.records import Record
from stjax.training.inputs import open_split
from stjax.training.workdir import description
from stjax.viz.sheet import cell_size, rescale

_TOP = 3  # classes shown of each clip


def examples(record: Record, count: int, step: int | str | None = None) -> dict:
    """Predictions or answers for evenly spaced test clips, and attention maps.

    Args:
      record: of the run.
      count: how many clips.
      step: of the checkpoint, see `stjax.load`.

    Returns:
      ``clips`` (for the template), ``attention`` {"picture", "caption"} or None,
      ``search`` (of a search) as that or None, and ``missing``: why there are none, in
      words.
    """
    found = {"clips": [], "attention": None, "search": None, "missing": ""}
    if count < 1:
        return found
    try:
        config, spec = description(record.workdir)
        if record.config.get("search.gate"):
            found["search"] = _search(record)
        source = open_split(config, "test")
        model = load(str(record.workdir), step)
        show = _answer if isinstance(spec, LabelSpec) else _prediction
        for index in np.unique(np.linspace(0, len(source) - 1, count).astype(int)):
            clip = source.clip(int(index), np.random.default_rng(config.seed))
            found["clips"].append({"index": int(index), **show(model, clip)})
            if found["attention"] is None:
                found["attention"] = _attention(model, clip["input"], int(index))
    except UserError as error:  # data or checkpoints that are not here any more
        found["missing"] = " ".join(str(error).split())
    return found


def _prediction(model, clip: dict) -> dict:
    spec = model.spec
    past = clip["input"][..., list(spec.target_index)]
    prediction, truth = model(clip["input"], spec.t_out)[0], clip["target"]
    options = {"cmap": "viridis"}
    if model.is_pixels:
        white = 255.0 if past.dtype.kind in "ui" else 1.0
        options = {"value_range": (0.0, white)}
    animation = viz.animate(past, prediction, truth, **options)
    return {
        "animation": inline.gif(animation),
        "strip": inline.png(viz.strip(past, prediction, truth, **options)),
    }


def _answer(model, clip: dict) -> dict:
    """The first view as an animation, and the classes that come first."""
    classes, views = model.spec.classes, clip["input"]
    top = model.top_k(model.of_views(views), _TOP)
    truth = [classes[i] for i in np.flatnonzero(clip["target"])]
    view = viz.colour(views[0], _range(views[0]))
    cell = cell_size(*view.shape[1:3], 150)
    frames = np.stack([rescale(frame, cell) for frame in view])
    return {
        "animation": inline.gif(frames, fps=min(10.0, max(4.0, len(frames) / 2))),
        "truth": ", ".join(truth) or "no class",
        "top": [{"name": n, "share": p, "right": n in truth} for n, p in top],
        "right": top[0][0] in truth,
    }


def _search(record: Record) -> dict:
    """The marginals of a search, and what else it has to show."""
    from stjax.search.showing import show

    with tempfile.TemporaryDirectory() as folder:
        told = show(record.workdir, output=folder)
        pictures = [
            {
                "name": name.partition(".")[0],
                "picture": inline.uri(Path(folder, name).read_bytes(), "png"),
            }
            for name in told["pictures"]
        ]
    return {"pictures": pictures, "mode": told["mode"], "marked": told["marked"]}


def _range(frames: np.ndarray) -> tuple[float, float]:
    return (0.0, 255.0) if frames.dtype.kind in "ui" else (0.0, 1.0)


def _attention(model, clip: np.ndarray, index: int) -> dict | None:
    """A picture of what the model attends to; None if it does not attend."""
    clip = clip[0] if clip.ndim == 5 else clip
    try:
        found = viz.attention(model, clip)
    except UserError:
        return None
    query = viz.liveliest(clip)
    spec = model.spec
    drawn = clip[..., :3] if len(spec.channels) >= 3 else clip[..., :1]
    gates = isinstance(found[0], viz.Gate)
    if gates:
        caption = (
            f"Test clip {index}. Each block multiplies its input by a static attention,"
            " a large convolution that says where, and a dynamic one, a factor for"
            " every channel."
        )
    else:
        t, y, x = query
        caption = (
            f"Test clip {index}, what the position with the most motion (frame {t + 1},"
            f" row {y}, column {x}; green) takes from all others: orange, the brightest"
            " being the largest of a row; below a frame its share."
        )
    return {"picture": inline.png(viz.draw_attention(found, drawn)), "caption": caption}
