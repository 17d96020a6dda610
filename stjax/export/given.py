"""What is given to be exported."""

from stjax.errors import UserError
from stjax.prediction import Predictor
from stjax.recognition import Recogniser
from stjax.training.workdir import Run

Function = Predictor | Recogniser


def loaded(model: Function | str) -> Function:
    """A model as a function, loaded if need be.

    Raises:
      UserError: it is a program already, whose Python code is not there.
    """
    if not isinstance(model, Function):
        from stjax.loading import load

        model = load(model)
    if getattr(model, "program", None):
        raise UserError(
            f"{model.source} is an exported program; export the model it was made from"
        )
    return model


def run_of(model: Function) -> Run:
    """Where it comes from.

    Raises:
      UserError: it was made from parts.
    """
    if model.run is None:
        raise UserError(
            "this model was made from parts, without a config; load it with stjax.load"
        )
    return model.run
