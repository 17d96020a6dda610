"""A search where no layer needs time.

    stjax search fit --config=fusion/appearance --workdir=DIR

All strategies can be equally good, so accuracy prefers none; with a cost of paths the
spatial unit has to win everywhere.
"""

from ml_collections import ConfigDict

from stjax.recipes.known_answers import recipe, training

_NATS = {"costly": 3600.0, "free": 0.0}


@recipe("fusion/appearance", cost=tuple(_NATS))
def get_config(config: ConfigDict, cost: str) -> None:
    """Variants: whether keeping a path costs."""
    training(config, "appearance", steps=600, cost=_NATS[cost])


miniature = get_config.miniature
