"""What a run shows at its end: pictures/test.png."""

import numpy as np
from etils import epath

from stjax import media, viz
from stjax.data.base import LabelSpec
from stjax.training.setup import Setup


def draw(workdir: epath.Path, setup: Setup, variables: dict, results: dict) -> None:
    """Draws the first test clip and its prediction, or the confusion of the classes.

    Args:
      workdir: of the run.
      setup: of the run.
      variables: of the best checkpoint.
      results: content of results.json.
    """
    if isinstance(setup.spec, LabelSpec):
        if "confusion" not in results:  # clips with several labels
            return
        matrix = np.asarray(results["confusion"])
        picture = viz.confusion(matrix, setup.spec.classes)
    else:
        picture = _strip(setup, variables)
    (workdir / "pictures").mkdir(parents=True, exist_ok=True)
    media.write_png(str(workdir / "pictures" / "test.png"), picture)


def _strip(setup: Setup, variables: dict) -> np.ndarray:
    from stjax.prediction import Predictor

    spec = setup.spec
    clip = setup.sources["test"].clip(0, np.random.default_rng(setup.config.seed))
    predictor = Predictor(setup.model, variables, spec, nan=setup.config.data.nan)
    prediction = predictor(clip["input"], spec.t_out)[0]
    shown = clip["input"][..., list(spec.target_index)]
    return viz.strip(shown, prediction, clip["target"])
