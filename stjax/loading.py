"""Trained models as functions."""

from stjax.data.base import LabelSpec
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
        return Recogniser(run.model, run.variables, run.spec, source=source)
    nan = run.config.data.nan
    return Predictor(run.model, run.variables, run.spec, source=source, nan=nan)
