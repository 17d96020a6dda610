"""A search where half of the label needs time: some layers should have it, not all.

stjax search fit --config=fusion/shape_and_drift --workdir=DIR
"""

from ml_collections import ConfigDict

from stjax.recipes.known_answers import recipe, training

_NATS = {"costly": 1200.0, "free": 0.0}


@recipe("fusion/shape_and_drift", cost=tuple(_NATS), frames=("in_order", "shuffled"))
def get_config(config: ConfigDict, cost: str, frames: str) -> None:
    """Variants: whether keeping a path costs; the control, frames in random order."""
    training(config, "shape_and_drift", steps=900, cost=_NATS[cost])
    config.data.sigma = 0.2  # with 0.1 all strategies that see time are right always
    config.data.shuffle = frames == "shuffled"


miniature = get_config.miniature
