"""A search where half of the label needs time: some layers should have it, not all.

    stjax search fit --config=fusion/shape_and_drift --workdir=DIR

What a template says of its strategies, and what they are trained alone, are in
``experiments/fusion_search.md``.
"""

from ml_collections import ConfigDict

from stjax.recipes.known_answers import recipe, training

_NATS = {"costly": 1200.0, "free": 0.0}


@recipe(
    "fusion/shape_and_drift",
    cost=tuple(_NATS),
    frames=("in_order", "shuffled"),
    gates=("learned", "uniform"),
    noise=("quiet", "noisy"),
)
def get_config(
    config: ConfigDict, cost: str, frames: str, gates: str, noise: str
) -> None:
    """Variants, by group.

    Args:
      config: to be filled in.
      cost: whether keeping a path costs.
      frames: in random order they are a control: nothing tells the direction.
      gates: "uniform": they stay where they begin, so that all strategies are drawn
        alike, as in single path one-shot search (Guo et al. 2019).
      noise: "noisy": strategies that see more of time are better. Else all that see
        time come to 98 %, some sooner, and there is no order to be found.
    """
    training(config, "shape_and_drift", steps=900, cost=_NATS[cost])
    # With .1 all strategies that see time are right always.
    config.data.sigma = 0.25 if noise == "noisy" else 0.2
    config.data.shuffle = frames == "shuffled"
    if gates == "uniform":
        config.search.lr = 1e-9


miniature = get_config.miniature
