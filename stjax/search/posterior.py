"""What a trained template believes about its strategies."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath

from stjax.errors import UserError, unknown
from stjax.layers.slots import Slot, Strategy
from stjax.search import gates
from stjax.search.drawing import Limit, draw
from stjax.search.template import Template, gate_name, uses_of

KINDS = ("sampling", "eq7")
_MOVED = 0.1  # mean total variation from the start, from which gates count as moved


@dataclasses.dataclass(frozen=True)
class Posterior:
    """The distribution of the units of every slot, independent of each other.

    Attributes:
      gate: ``"categorical"`` or ``"bernoulli"``.
      slots: with the units that are allowed.
      logits: {name of a slot: logits}, see `stjax.search.gates`.
      p_init: probability to drop a path before training.
    """

    gate: str
    slots: tuple[Slot, ...]
    logits: Mapping[str, np.ndarray]
    p_init: float = 0.1

    @classmethod
    def of(cls, template: Template, variables: Mapping) -> "Posterior":
        """That of a template with these variables."""
        logits = variables["params"]["gates"]
        found = {s.name: np.asarray(logits[gate_name(s)]) for s in template.slots}
        return cls(template.gate, template.slots, found, template.p_init)

    @classmethod
    def from_workdir(
        cls, workdir: str | epath.Path, step: int | str | None = "last"
    ) -> "Posterior":
        """That of a run of `stjax.search.fit`.

        Args:
          workdir: of the run.
          step: of the checkpoint: "last", "best" or a number.

        Raises:
          UserError: no such run or checkpoint, or it was no search.
        """
        from stjax.training.workdir import load_run

        run = load_run(workdir, step)
        if not isinstance(run.model, Template):
            raise UserError(
                f"{workdir} holds a training without gates; give the workdir of a"
                " search"
            )
        return cls.of(run.model, run.variables)

    def marginals(self, kind: str = "sampling") -> dict[str, dict[str, float]]:
        """The probabilities of the units of every slot.

        Args:
          kind: ``"sampling"``: the probability to be drawn. ``"eq7"``: as figure 4 of
            the paper has it, the product over paths of m (on) or 1 - m (off) with
            ``m = 1 - sqrt(p)``, p the probability that a path is dropped. This is no
            sampling probability; it is there to compare with the paper.

        Returns:
          {slot: {unit: probability}}; with independent gates and ``"eq7"`` they add up
          to less than 1: see `rest`.
        """
        if kind not in KINDS:
            raise unknown("kind of marginals", kind, KINDS)
        found = {}
        for slot in self.slots:
            p = self._units(slot) if kind == "sampling" else self._eq7(slot)
            found[slot.name] = dict(zip(slot.choices, map(float, p), strict=True))
        return found

    def rest(self, kind: str = "sampling") -> dict[str, float]:
        """{slot: probability of sets of paths that are no unit, such as none}."""
        marginals = self.marginals(kind)
        return {name: 1 - sum(of.values()) for name, of in marginals.items()}

    def table(self, kind: str = "sampling") -> tuple[tuple[str, ...], np.ndarray]:
        """The names of all units, and `marginals` as [slots, units]; NaN: no choice."""
        marginals = self.marginals(kind).values()
        names = tuple(dict.fromkeys(unit for of in marginals for unit in of))
        rows = [[of.get(unit, np.nan) for unit in names] for of in marginals]
        return names, np.array(rows)

    def path_on(self) -> dict[str, dict[str, float]]:
        """{slot: {path: probability that it is on}}."""
        found = {}
        for slot in self.slots:
            p = gates.path_on(self.gate, self.logits[slot.name], uses_of(slot))
            found[slot.name] = dict(zip(slot.paths, map(float, p), strict=True))
        return found

    def mode(self) -> Strategy:
        """The most probable strategy."""
        return tuple(
            slot.choices[int(self._log_units(slot).argmax())] for slot in self.slots
        )

    def log_prob(self, strategy: Sequence[str]) -> float:
        """Log-probability in nats that the gates draw this strategy.

        Independent gates also draw slots without any path, which are no strategies:
        over all strategies the probabilities add up to `valid`.

        Raises:
          UserError: it is not one of these slots and units.
        """
        if len(strategy) != len(self.slots):
            raise UserError(
                f"the strategy has {len(strategy)} units for {len(self.slots)} slots"
            )
        total = 0.0
        for slot, unit in zip(self.slots, strategy, strict=True):
            if unit not in slot.choices:
                raise unknown(f"unit of {slot.name}", unit, slot.choices)
            total += float(self._log_units(slot)[slot.choices.index(unit)])
        return total

    @property
    def valid(self) -> float:
        """Probability that the gates draw a strategy: a unit in every slot."""
        return math.prod(float(self._units(slot).sum()) for slot in self.slots)

    def entropies(self) -> dict[str, float]:
        """{slot: entropy of its gates in nats}."""
        return {
            slot.name: float(gates.entropy(self.gate, self.logits[slot.name]))
            for slot in self.slots
        }

    def entropy(self) -> float:
        """Of all gates, in nats."""
        return sum(self.entropies().values())

    def moved_from_init(self) -> dict[str, object]:
        """Whether training has moved the gates at all.

        Returns:
          ``slots`` {slot: total variation between the probabilities of its units
          before and after}, their ``mean`` and ``max``, ``entropy`` and
          ``entropy_init`` in nats, and ``moved``: whether the mean is 0.1 or more.
          Where it is not, marginals say what the gates began with.
        """
        start = self.start()
        moved = {
            slot.name: _variation(self._units(slot), start._units(slot))
            for slot in self.slots
        }
        mean = sum(moved.values()) / len(moved)
        return {
            "moved": mean >= _MOVED,
            "mean": mean,
            "max": max(moved.values()),
            "entropy": self.entropy(),
            "entropy_init": start.entropy(),
            "slots": moved,
        }

    def start(self) -> "Posterior":
        """The distribution before training."""
        logits = {
            slot.name: gates.initial_logits(self.gate, uses_of(slot), self.p_init)
            for slot in self.slots
        }
        return dataclasses.replace(self, logits=logits)

    def sample(
        self,
        n: int,
        seed: int = 0,
        *,
        unique: bool = True,
        cost: Callable[[Strategy], object] | None = None,
        max_params: float | None = None,
        max_macs: float | None = None,
        min_prob: float | None = None,
        include: Sequence[Strategy] = (),
    ) -> list[Strategy]:
        """Strategies drawn from the posterior, in the order in which they came.

        Slots that have lost all their paths are drawn again. Where next to no draw
        meets the constraints, draws are tilted towards those that do, by a factor
        ``exp(-beta cost)``: of all distributions with that mean cost it is the one
        nearest to the posterior.

        Args:
          n: how many, those of `include` among them.
          seed: the same one gives the same list.
          unique: no strategy twice; then they are less than n if there are no more.
          cost: of a strategy, with ``params`` and ``macs``, additive over slots:
            `stjax.search.space.Space.cost`.
          max_params: the most parameters.
          max_macs: the most multiply-adds.
          min_prob: the least posterior probability.
          include: strategies that come first, whatever the constraints say.

        Raises:
          UserError: no strategy meets a constraint, or all together.
        """
        units = [slot.choices for slot in self.slots]
        log_probs = [self._log_units(slot) for slot in self.slots]
        limits = [
            Limit.of_cost(key, most, cost, units)
            for key, most in (("params", max_params), ("macs", max_macs))
            if most is not None
        ]
        if min_prob is not None:
            limits.append(Limit.of_probability(min_prob, log_probs))
        first = [tuple(strategy) for strategy in include]
        for strategy in first:
            self.log_prob(strategy)  # or an error
        first = list(dict.fromkeys(first)) if unique else first
        rng = np.random.default_rng(seed)
        return draw(rng, n, units, log_probs, limits, first, unique)

    def to_dict(self) -> dict[str, object]:
        """All of it, for JSON."""
        return {
            "gate": self.gate,
            "mode": list(self.mode()),
            "marginals": {kind: self.marginals(kind) for kind in KINDS},
            "path_on": self.path_on(),
            "entropy": self.entropy(),
            "valid": self.valid,
            "moved_from_init": self.moved_from_init(),
        }

    @functools.cached_property
    def _logs(self) -> dict[str, np.ndarray]:
        found = {}
        for slot in self.slots:
            logits, uses = self.logits[slot.name], uses_of(slot)
            log_p = gates.unit_log_probs(self.gate, logits, uses)
            found[slot.name] = np.asarray(log_p, np.float64)
        return found

    def _log_units(self, slot: Slot) -> np.ndarray:
        return self._logs[slot.name]

    def _units(self, slot: Slot) -> np.ndarray:
        return np.exp(self._log_units(slot))

    def _eq7(self, slot: Slot) -> np.ndarray:
        uses = uses_of(slot).astype(bool)
        on = np.float64(gates.path_on(self.gate, self.logits[slot.name], uses))
        m = 1 - np.sqrt(np.clip(1 - on, 0, 1))
        return np.where(uses, m, 1 - m).prod(1)


def _variation(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation; what p and q lack to 1 is one more outcome."""
    return float(np.abs(p - q).sum() + abs(p.sum() - q.sum())) / 2
