"""Which frames a recurrent model is shown in training: scheduled sampling.

Scheduled sampling (Bengio et al., 2015) shows the true future ever less often, so
that the model learns to live on its own predictions. Reverse scheduled sampling
(PredRNNv2, Wang et al., 2021) also hides frames of the input part, ever less often.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def scheduled_probability(
    step: Array | int, rate: float = 2e-5, stop: int = 50_000
) -> Array:
    """P(a future frame is shown): ``1 - rate*(step+1)``, 0 from `stop` on.

    `step` is the number of updates done before. The defaults are OpenSTL's. (Its
    later MAU trainer forgets the decrement and stays at ``1 - rate`` until `stop`.)
    """
    falling = 1.0 - rate * (jnp.asarray(step, jnp.float32) + 1.0)
    return jnp.where(step < stop, jnp.maximum(falling, 0.0), 0.0)


def reverse_probabilities(
    step: Array | int, start: int = 25_000, stop: int = 50_000, alpha: float = 5_000.0
) -> tuple[Array, Array]:
    """P(an input frame is shown), P(a future frame is shown), both 1/2 at first.

    From `start` to `stop` the first rises as ``1 - exp(-(step-start)/alpha)/2`` and the
    second falls linearly; after `stop` they are 1 and 0. The defaults are OpenSTL's.
    """
    since = jnp.asarray(step, jnp.float32) - start
    rising = 1.0 - 0.5 * jnp.exp(-jnp.maximum(since, 0.0) / alpha)
    falling = 0.5 - 0.5 * since / (stop - start)
    before, after = step < start, step >= stop
    shown_input = jnp.where(before, 0.5, jnp.where(after, 1.0, rising))
    shown_future = jnp.where(before, 0.5, jnp.where(after, 0.0, falling))
    return shown_input, shown_future
