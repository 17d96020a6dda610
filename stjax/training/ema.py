"""A moving average of the parameters, which is what gets evaluated (``train.ema``).

The decay warms up, ``min(decay, (1 + t) / (10 + t))`` at 0-based step t, so that the
random first weights are soon forgotten. Source: ``num_updates`` of TensorFlow's
`tf.train.ExponentialMovingAverage`, as in CompVis' LitEma; of timm's, ModelEmaV3 has
another warm-up, ``1 - (1 + t)^(-2/3)``, and ModelEmaV2 none. Batch statistics are
running means already and are not averaged again.
"""

import jax
import jax.numpy as jnp


def init(params: dict) -> dict:
    """The average before the first step: a copy, so that buffers can be donated."""
    return jax.tree.map(jnp.copy, params)


def update(ema: dict, params: dict, step: jax.Array | int, decay: float) -> dict:
    """The average after a step.

    Args:
      ema: the average before it.
      params: the parameters after it.
      step: steps taken before it; the first one has 0.
      decay: the largest weight of the old average, such as 0.9999.

    Returns:
      ``d * ema + (1 - d) * params``, d the decay of this step.
    """
    rest = 1 - decay_at(step, decay)
    return jax.tree.map(lambda e, p: e + rest * (p - e), ema, params)


def decay_at(step: jax.Array | int, decay: float) -> jax.Array:
    """The weight of the old average at a 0-based step, float32 []."""
    step = jnp.asarray(step, jnp.float32)
    return jnp.minimum(decay, (1 + step) / (10 + step))
