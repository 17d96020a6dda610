"""Slots: places in a network where a strategy chooses one of several units.

A unit is a set of paths, modules side by side whose results are added: of a fusion
layer "S" keeps the path ``s``, "ST" the path ``t`` and "S+ST" both. A network with
slots is an ordinary Linen module with

* ``slots``: a property, its `Slot` objects in the order of the network;
* ``units``: a field, the unit of every slot: one name for all, a name a slot, or
  ``"all"``: every path is built. Only the paths of its unit exist in a slot, so a
  network with a chosen strategy has fewer parameters than its template;
* ``masks``: a keyword of ``__call__``: {name of a slot: [P] or [B, P]}, a factor for
  every path of the slot (all P of them, whether built or not), in the order of
  `Slot.paths`. None: all that is built counts fully.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UserError, unknown

ALL = "all"
Masks = Mapping[str, jax.Array]
Strategy = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place with a choice; hashable.

    Attributes:
      name: path of its module from the root of the network, joined by slashes.
      units: (unit, its paths), in the order in which they are shown.
      modules: (path, submodules that it runs), relative to `name`; "" is the slot's
        own parameters. Two paths may share one.
      folds: (path, another): linear maps of the same input, added before anything else
        happens, so that the kernel of the first can be added to that of the second.
    """

    name: str
    units: tuple[tuple[str, tuple[str, ...]], ...]
    modules: tuple[tuple[str, tuple[str, ...]], ...]
    folds: tuple[tuple[str, str], ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them; the last axis of a mask."""
        return tuple(path for path, _ in self.modules)

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of the units."""
        return tuple(unit for unit, _ in self.units)

    def kept(self, unit: str) -> tuple[str, ...]:
        """The paths of a unit, or of ``"all"``.

        Raises:
          UserError: there is no such unit.
        """
        if unit == ALL:
            return self.paths
        if unit not in self.choices:
            raise unknown(f"unit of {self.name}", unit, (*self.choices, ALL))
        return dict(self.units)[unit]


def strategy_of(slots: Sequence[Slot], units: str | Sequence[str]) -> Strategy:
    """One unit a slot.

    Raises:
      UserError: another number of units than of slots, or an unknown one.
    """
    strategy = (units,) * len(slots) if isinstance(units, str) else tuple(units)
    if len(strategy) != len(slots):
        raise UserError(
            f"units names {len(strategy)} units for {len(slots)} slots; give one a"
            " slot, or one name for all"
        )
    for slot, unit in zip(slots, strategy, strict=True):
        slot.kept(unit)  # or an error
    return strategy


def built_paths(
    slots: Sequence[Slot], units: str | Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The paths that exist, by the name of the slot."""
    strategy = strategy_of(slots, units)
    return {s.name: s.kept(u) for s, u in zip(slots, strategy, strict=True)}


def hard_masks(slots: Sequence[Slot], strategy: str | Sequence[str]) -> dict:
    """1 for the paths of a strategy, else 0: {name of a slot: [P] float32}."""
    masks = {}
    for slot, unit in zip(slots, strategy_of(slots, strategy), strict=True):
        kept = slot.kept(unit)
        masks[slot.name] = np.float32([path in kept for path in slot.paths])
    return masks


def gated(x: jax.Array, mask: jax.Array | None, index: int) -> jax.Array:
    """``x`` [B, ...] times the factor of path `index`; None leaves it.

    Args:
      x: what goes into a path without bias, or comes out of one.
      mask: [P], or [B, P] for factors of each example.
      index: of the path.
    """
    if mask is None:
        return x
    factor = jnp.asarray(mask)[..., index].astype(x.dtype)
    return x * factor.reshape(factor.shape + (1,) * (x.ndim - factor.ndim))
