"""Learning-rate schedules as the papers trained: pure functions of the step.

Each builder returns ``f(step) -> value`` for a Python or traced integer step, 0-based,
in float32 (float64 under `jax.enable_x64`), clamped after the last step. Lengths are
steps; ``warmup`` is epochs.
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from stjax.errors import UserError, unknown

Schedule = Callable[[jax.Array | int], jax.Array]


def constant(value: float) -> Schedule:
    """The same value at every step."""
    return lambda step: jnp.full_like(_real(step), value)


def onecycle(
    peak: float, first: float, last: float, *, total_steps: int, pct_start: float = 0.3
) -> Schedule:
    """Cosine from ``first`` to ``peak``, then cosine to ``last``: torch's OneCycleLR.

    The peak is at step ``pct_start * total_steps - 1`` (not rounded), the last value at
    step ``total_steps - 1``. The same curve carries the learning rate up and Adam's
    beta1 down. Source: `torch.optim.lr_scheduler.OneCycleLR`, after Smith and Topin.
    """
    turn = pct_start * total_steps - 1  # below 0 in very short runs: no way up
    rest = max(total_steps - 1 - turn, 1e-6)

    def value(step):
        step = _real(step)
        up = _cosine(first, peak, jnp.clip(step / max(turn, 1e-6), 0, 1))
        down = _cosine(peak, last, jnp.clip((step - turn) / rest, 0, 1))
        return jnp.where(step <= turn, up, down)

    return value


def cosine_epochs(
    lr: float,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 0,
    warmup_lr: float = 1e-5,
    lr_min: float = 1e-6,
) -> Schedule:
    """Cosine that moves once per epoch, with a linear warm-up laid over its start.

    ``lr_min + (lr - lr_min) (1 + cos(pi e / epochs)) / 2`` in epoch e; the first
    ``warmup`` epochs rise from ``warmup_lr`` towards ``lr`` instead, while the cosine
    keeps counting from epoch 0. Source: timm's CosineLRScheduler as OpenSTL uses it.
    """
    epochs = max(-(-total_steps // steps_per_epoch), 1)

    def value(step):
        epoch = _real(jnp.asarray(step) // steps_per_epoch)
        decay = _cosine(lr, lr_min, jnp.clip(epoch / epochs, 0, 1))
        if warmup <= 0:
            return decay
        rise = warmup_lr + epoch * ((lr - warmup_lr) / warmup)
        return jnp.where(epoch < warmup, rise, decay)

    return value


def cosine_iterations(
    lr: float,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 0,
    warmup_lr: float = 1e-6,
    lr_min: float = 1e-6,
    after_warmup: bool = True,
) -> Schedule:
    """Cosine that moves every step; the warm-up rises to where the cosine then is.

    ``after_warmup=True``: the cosine starts when the warm-up ends (UniFormer's run
    scripts); False: it counts from step 0 (PySlowFast's I3D configs, with ``lr_min=0``
    and ``warmup_lr=0.01``). Source: PySlowFast ``slowfast/utils/lr_policy.py``.
    """
    start = warmup * steps_per_epoch if after_warmup else 0

    def cosine(step):
        length = max(total_steps - start, 1e-6)
        return _cosine(lr, lr_min, jnp.clip((step - start) / length, 0, 1))

    return _warmed(cosine, warmup * steps_per_epoch, warmup_lr)


def steps(
    lr: float,
    *,
    steps_per_epoch: int,
    milestones: Sequence[float],
    factors: Sequence[float],
    milestone_unit: str = "epochs",
    warmup: float = 0,
    warmup_lr: float = 0.01,
) -> Schedule:
    """``lr`` times ``factors[i]`` from ``milestones[i]`` on (the first is 0).

    Milestones are epochs, not necessarily whole ones, or, with
    ``milestone_unit="steps"``, steps (the iterations of the non-local networks' paper:
    ``(0, 150_000, 300_000)`` with factors ``(1, 0.1, 0.01)``).

    Source: PySlowFast's policy ``steps_with_relative_lrs``.

    Raises:
      UserError: milestones and factors do not fit each other.
    """
    units = {"epochs": steps_per_epoch, "steps": 1}
    if milestone_unit not in units:
        raise unknown("value of optim.milestone_unit", milestone_unit, units)
    rising = all(a < b for a, b in itertools.pairwise(milestones))
    if len(milestones) != len(factors) or list(milestones[:1]) != [0] or not rising:
        raise UserError(
            f"optim.milestones={tuple(milestones)} must rise from 0 and have one of"
            f" optim.factors={tuple(factors)} each"
        )
    edges = [edge * units[milestone_unit] for edge in milestones]

    def stairs(step):
        index = jnp.sum(jnp.asarray(step)[..., None] >= jnp.asarray(edges), axis=-1)
        return jnp.asarray([lr * factor for factor in factors])[index - 1]

    return _warmed(stairs, warmup * steps_per_epoch, warmup_lr)


def _warmed(schedule, length, first):
    """``schedule`` after a straight line from ``first`` to its value at ``length``."""
    if length <= 0:
        return lambda step: schedule(_real(step))

    def value(step):
        step = _real(step)
        last = schedule(jnp.full_like(step, length))
        return jnp.where(
            step < length, first + step * ((last - first) / length), schedule(step)
        )

    return value


def _cosine(start, end, fraction):
    return end + (start - end) / 2 * (1 + jnp.cos(jnp.pi * fraction))


def _real(step):
    return jnp.asarray(step, float)
