"""Drawing strategies under constraints."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from stjax.errors import UserError
from stjax.layers.slots import Strategy

_CHUNK = 1024  # draws at a time
_ROUNDS = 100  # chunks at most
_FEW = 0.01  # share of draws that meet the limits, below which they are tilted


@dataclasses.dataclass(frozen=True)
class Limit:
    """``fixed + sum over slots of each[slot][unit] <= most``.

    Attributes:
      name: of the constraint, with its value, for messages.
      what: it limits.
      each: [U] of every slot.
      fixed: of all strategies.
      most: the limit.
      shown: makes a value of the left side one for people.
    """

    name: str
    what: str
    each: tuple[np.ndarray, ...]
    fixed: float
    most: float
    shown: Callable[[float], str]

    @classmethod
    def of_cost(
        cls,
        key: str,
        most: float,
        cost: Callable[[Strategy], object] | None,
        units: Sequence[Sequence[str]],
    ) -> "Limit":
        """Of "params" or "macs", from the cost of strategies.

        Raises:
          UserError: nobody tells the cost.
        """
        if cost is None:
            raise UserError(
                f"max_{key} needs to know what a strategy costs; give cost=space.cost"
            )

        def value(strategy: Sequence[str]) -> float:
            return float(getattr(cost(tuple(strategy)), key))

        first = [some[0] for some in units]
        fixed = value(first)
        each = tuple(
            np.array([value([*first[:i], u, *first[i + 1 :]]) - fixed for u in some])
            for i, some in enumerate(units)
        )
        shown = "{:,.0f}".format
        return cls(f"max_{key}={shown(most)}", key, each, fixed, most, shown)

    @classmethod
    def of_probability(cls, least: float, log_probs: Sequence[np.ndarray]) -> "Limit":
        """Of the probability of a strategy, from below."""
        most = -math.log(least) if least > 0 else math.inf
        return cls(
            f"min_prob={least:.3g}",
            "probability",
            tuple(-np.asarray(p) for p in log_probs),
            0.0,
            most * (1 + 1e-9),
            lambda nats: f"{math.exp(-nats):.3g}",
        )

    @property
    def least(self) -> float:
        """The smallest value of any strategy."""
        return self.fixed + sum(each.min() for each in self.each)

    def check(self) -> None:
        """Raises a `UserError` if no strategy meets it."""
        if self.least > self.most:
            raise UserError(
                f"no strategy meets {self.name}: the best has"
                f" {self.shown(self.least)} {self.what}; relax it"
            )

    def of(self, index: np.ndarray) -> np.ndarray:
        """Values of strategies, [N], from the numbers of their units [N, slots]."""
        parts = [each[column] for each, column in zip(self.each, index.T, strict=True)]
        return self.fixed + np.sum(parts, axis=0)


def draw(
    rng: np.random.Generator,
    n: int,
    units: Sequence[Sequence[str]],
    log_probs: Sequence[np.ndarray],
    limits: Sequence[Limit],
    first: Sequence[Strategy],
    unique: bool,
) -> list[Strategy]:
    """`first`, and then strategies drawn from the probabilities, up to n in all.

    Args:
      rng: the randomness.
      n: how many.
      units: of each slot.
      log_probs: of the units of each slot, not normalised.
      limits: that those which are drawn meet.
      first: come first.
      unique: no strategy twice.

    Raises:
      UserError: none was found, though some were asked for.
    """
    for limit in limits:
        limit.check()
    found, seen = list(first), set(first)
    strength = np.zeros(len(limits))
    met = 0
    for _ in range(_ROUNDS):
        if len(found) >= n:
            break
        index = _chunk(rng, log_probs, limits, strength)
        values = np.array([limit.of(index) for limit in limits]).reshape(-1, _CHUNK)
        most = np.array([limit.most for limit in limits])
        good = (values <= most[:, None]).all(0)
        met += int(good.sum())
        for row in index[good]:
            strategy = tuple(some[i] for some, i in zip(units, row, strict=True))
            if len(found) < n and not (unique and strategy in seen):
                found.append(strategy)
                seen.add(strategy)
        if good.mean() < _FEW:
            strength = _stronger(strength, values, most)
    if not met and len(found) < n:
        names = " and ".join(limit.name for limit in limits)
        raise UserError(f"no strategy was found that meets {names}; relax one")
    return found


def _chunk(rng, log_probs, limits, strength) -> np.ndarray:
    """Numbers of units, [_CHUNK, slots]."""
    columns = []
    for slot, log_p in enumerate(log_probs):
        tilted = np.array(log_p, np.float64)
        for limit, beta in zip(limits, strength, strict=True):
            tilted -= beta * limit.each[slot]
        p = np.exp(tilted - tilted.max())
        columns.append(rng.choice(len(p), _CHUNK, p=p / p.sum()))
    return np.stack(columns, axis=1)


def _stronger(strength, values, most) -> np.ndarray:
    """The tilt of the limits that most draws break, half as much again."""
    spread = np.maximum(values.std(1), 1e-9 * np.maximum(np.abs(most), 1e-9))
    start = 0.25 / spread
    broken = (values > most[:, None]).mean(1) > 0.5
    return np.where(broken, np.maximum(strength * 1.5, start), strength)
