"""The strategies that a search chooses from, and what each one costs."""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from stjax.config import base_config
from stjax.data.base import ClipSpec, Spec
from stjax.errors import UserError
from stjax.layers.slots import ALL, Slot, Strategy
from stjax.macs import macs_by_scope
from stjax.models.registry import model_fields
from stjax.search.allowed import Units, allowed_units
from stjax.training import inputs
from stjax.training.state import build_model, init_variables

_MOST = 100_000  # strategies that may be listed one by one


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a network, or of a part of it.

    Attributes:
      params: parameters.
      macs: multiply-adds of one view of a clip.
    """

    params: int = 0
    macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs)


@dataclasses.dataclass(frozen=True)
class Space:
    """A template network's slots, the units allowed in them, and their costs.

    Attributes:
      model: its name.
      slots: in the order of the network.
      units: allowed in each slot.
      modules: of each slot: (module, its cost); "" is the slot's own.
      fixed: the cost of all that no strategy changes.
    """

    model: str
    slots: tuple[Slot, ...]
    units: Units
    modules: tuple[tuple[tuple[str, Cost], ...], ...]
    fixed: Cost

    @property
    def size(self) -> int:
        """How many strategies there are."""
        return math.prod(map(len, self.units))

    @functools.cached_property
    def hash(self) -> str:
        """Of model, slots and units: 16 hex digits. Widths and costs do not count."""
        told = [
            [slot.name, [[unit, list(slot.kept(unit))] for unit in units]]
            for slot, units in zip(self.slots, self.units, strict=True)
        ]
        text = json.dumps([self.model, told], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def whole(self) -> "Space":
        """The same without restrictions."""
        units = tuple(slot.choices for slot in self.slots)
        return dataclasses.replace(self, units=units)

    def check(self, strategy: Sequence[str]) -> Strategy:
        """The strategy, if it is one of this space.

        Raises:
          UserError: another number of units, or one that its slot may not have.
        """
        if len(strategy) != len(self.slots):
            raise UserError(
                f"the strategy has {len(strategy)} units, the space of {self.model}"
                f" {len(self.slots)} slots; take a strategy of this space"
            )
        for slot, units, unit in zip(self.slots, self.units, strategy, strict=True):
            if unit not in units:
                raise UserError(
                    f"unit {unit!r} of slot {slot.name!r} is not in this space of"
                    f" {self.model}, which allows {', '.join(units)} there"
                )
        return tuple(strategy)

    def cost(self, strategy: Sequence[str]) -> Cost:
        """Of the network with these units, as an ordinary model.

        Raises:
          UserError: it is none of this space.
        """
        strategy = self.check(strategy)
        params, macs = self.fixed.params, self.fixed.macs
        for slot, modules, unit in zip(self.slots, self.modules, strategy, strict=True):
            used = {m for path in slot.kept(unit) for m in dict(slot.modules)[path]}
            for name, cost in modules:
                params += cost.params * (name in used)
                macs += cost.macs * (name in used)
        return Cost(params, macs)

    def path_costs(self) -> dict[str, dict[str, Cost]]:
        """{slot: {path: cost}}; what two paths share counts for both."""
        return {
            slot.name: {
                path: sum((dict(modules)[m] for m in used), Cost())
                for path, used in slot.modules
            }
            for slot, modules in zip(self.slots, self.modules, strict=True)
        }

    @property
    def uniform(self) -> dict[str, Strategy]:
        """Strategies of one unit everywhere, by the unit's name."""
        common = [u for u in self.units[0] if all(u in units for units in self.units)]
        return {unit: (unit,) * len(self.slots) for unit in common}

    def random(self, count: int, seed: int) -> list[Strategy]:
        """Different strategies, each as likely as any other; all, if there are less."""
        if self.size <= count:
            return list(self)
        rng, found = np.random.default_rng(seed), {}
        while len(found) < count:
            found[tuple(str(rng.choice(units)) for units in self.units)] = None
        return list(found)

    def __iter__(self) -> Iterator[Strategy]:
        """All of them, the last slot changing first.

        Raises:
          UserError: they are too many.
        """
        if self.size > _MOST:
            raise UserError(
                f"the space has {self.size:.3g} strategies, too many to go through;"
                " draw some"
            )
        return itertools.product(*self.units)

    def to_dict(self) -> dict:
        """What a file says of it."""
        return {
            "model": self.model,
            "hash": self.hash,
            "size": self.size,
            "slots": [slot.name for slot in self.slots],
            "units": [list(units) for units in self.units],
            "paths": [
                {path: dataclasses.asdict(cost) for path, cost in paths.items()}
                for paths in self.path_costs().values()
            ],
            "fixed": dataclasses.asdict(self.fixed),
        }


def plain_config(
    config: ml_collections.ConfigDict, units: str | Sequence[str] = ALL
) -> ml_collections.ConfigDict:
    """The config of the network without search, with these units.

    It keeps the clips that are held out of training.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        same = not isinstance(units, str) and len(set(units)) == 1
        config.model.units = units[0] if same else units
        holdout = config.search.holdout
        config.search = base_config().search
        config.search.holdout = holdout
    return config.lock()


def create_space(config: ml_collections.ConfigDict, spec: Spec | None = None) -> Space:
    """The space of a config: its model with all units, and ``search.units``.

    The costs come from one trace of the template: nothing is computed.

    Args:
      config: of a search.
      spec: of the clips; None: the training split is opened to see.

    Raises:
      UserError: the space is empty, or has one strategy only.
    """
    spec = inputs.open_split(config, "train").spec if spec is None else spec
    if "units" not in model_fields(config.model.name):
        allowed_units((), ())  # raises: the space is empty
    model = build_model(plain_config(config), spec)
    slots = tuple(model.slots)
    units = allowed_units(slots, config.search.units)
    variables = jax.eval_shape(lambda: init_variables(model, spec, config.seed))
    leaves = flax.traverse_util.flatten_dict(variables["params"])
    params = {}
    for path, leaf in leaves.items():
        scope = "/".join(path[:-1])
        params[scope] = params.get(scope, 0) + math.prod(leaf.shape)
    frames = {"frames": spec.t_out} if isinstance(spec, ClipSpec) else {}
    x = jax.ShapeDtypeStruct((1, *spec.input_shape), jnp.float32)
    macs = macs_by_scope(functools.partial(model.apply, **frames), variables, x)
    costs = {
        scope: Cost(params.get(scope, 0), macs.get(scope, 0)) for scope in params | macs
    }
    return Space(config.model.name, slots, units, *_placed(slots, costs))


def _placed(slots: Sequence[Slot], costs: dict[str, Cost]):
    """Costs of the modules of each slot's paths, and of everything else together."""
    found = {
        slot.name: {m: Cost() for _, used in slot.modules for m in used}
        for slot in slots
    }
    fixed = Cost()
    for scope, cost in costs.items():
        place = _place(scope, found)
        if place is None:
            fixed += cost
        else:
            slot, module = place
            found[slot][module] += cost
    return tuple(tuple(found[slot.name].items()) for slot in slots), fixed


def _place(scope: str, slots: dict[str, dict]) -> tuple[str, str] | None:
    """The slot and its module that a scope is part of; a longer name wins."""
    places = [
        (slot, module)
        for slot, modules in slots.items()
        for module in modules
        if scope == (f"{slot}/{module}" if module else slot)
        or (module and scope.startswith(f"{slot}/{module}/"))
    ]
    return max(places, key=lambda place: len("/".join(place)), default=None)
