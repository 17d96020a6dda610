"""Trained models as functions."""

import inspect

from stjax.data.base import LabelSpec
from stjax.data.labelled import Views, make_views
from stjax.data.sampling import Sampling
from stjax.data.sources.labelled_videos import LabelledVideos
from stjax.prediction import Predictor
from stjax.recognition import Recogniser


def load(workdir: str, step: int | str | None = None) -> Predictor | Recogniser:
    """The trained model of a workdir, as a function.

    Args:
      workdir: of `stjax.train`; may be remote (gs://).
      step: of the checkpoint: "best" (the default), "last" or a number.

    Returns:
      A `stjax.prediction.Predictor`, from frames to frames, or a
      `stjax.recognition.Recogniser`, from clips to probabilities of classes.

    Raises:
      UserError: no run or no such checkpoint there, or it is of another model.
    """
    from stjax.training.workdir import load_run

    run = load_run(workdir, step)
    source = f"step {run.step} of {workdir}"
    if isinstance(run.spec, LabelSpec):
        views = _evaluation_views(run.config.data.to_dict())
        return Recogniser(
            run.model, run.variables, run.spec, source=source, views=views
        )
    nan = run.config.data.nan
    return Predictor(run.model, run.variables, run.spec, source=source, nan=nan)


def _evaluation_views(data: dict) -> Views:
    """How a run's test videos were seen, from the ``data`` section of its config."""
    fields = inspect.signature(LabelledVideos).parameters

    def value(field: str):
        given = data.get(field)
        return fields[field].default if given is None else given

    sampling = Sampling(*map(value, ("sampling", "t_in", "frame_step", "fps")))
    wanted = inspect.signature(make_views).parameters.keys() & fields.keys()
    chosen = {name: value(name) for name in wanted - {"sampling"}}
    reverse = value("reverse_channels")
    return make_views(False, sampling, reverse=reverse, **chosen)
