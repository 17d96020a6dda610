"""A search that has to find out how far a network must see in time.

    stjax search fit --config=fusion/order_ladder --workdir=DIR

The largest accuracy of a strategy follows from its number of temporal layers:
`stjax.data.known_answers.ladder_accuracy`.
"""

from ml_collections import ConfigDict

from stjax.recipes.known_answers import recipe, training


@recipe("fusion/order_ladder")
def get_config(config: ConfigDict) -> None:
    """No variants: cost would hide what is to be found."""
    training(config, "order_ladder", steps=900)


miniature = get_config.miniature
