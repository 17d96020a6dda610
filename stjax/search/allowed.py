"""Which units a search may choose in a slot (``search.units`` of a config)."""

import fnmatch
from collections.abc import Mapping, Sequence

from stjax.errors import UserError, unknown
from stjax.layers.slots import Slot

Units = tuple[tuple[str, ...], ...]


def allowed_units(
    slots: Sequence[Slot], restriction: Mapping[str, Sequence[str]] | Sequence[str] = ()
) -> Units:
    """The units of every slot, in the order of `Slot.choices`.

    Args:
      slots: of a network.
      restriction: what is allowed in the slots whose name matches a pattern of
        `fnmatch`, as ``{"layer4*": ("ST", "S+ST")}`` or, for a command line,
        ``("layer4*=ST,S+ST",)``. Of several patterns that match, the last one counts.
        Slots without a pattern keep all their units.

    Raises:
      UserError: no slot at all, a pattern that matches none, a unit that a slot does
        not have, a slot without any unit, or nothing to choose anywhere.
    """
    if not slots:
        raise UserError(
            "the search space is empty: this model has no slots to choose units in;"
            " take one that has them, such as densenet121_3d"
        )
    patterns = _patterns(restriction)
    allowed = {slot.name: slot.choices for slot in slots}
    for pattern, units in patterns.items():
        found = [slot for slot in slots if fnmatch.fnmatchcase(slot.name, pattern)]
        if not found:
            raise UserError(
                f"search.units: no slot matches {pattern!r}; they are called"
                f" {slots[0].name!r} ... {slots[-1].name!r}"
            )
        for slot in found:
            for unit in units:
                if unit not in slot.choices:
                    raise unknown(f"unit of {slot.name}", unit, slot.choices)
            allowed[slot.name] = tuple(u for u in slot.choices if u in units)
    for name, units in allowed.items():
        if not units:
            raise UserError(
                f"the search space is empty: search.units leaves no unit for {name!r};"
                " allow at least one"
            )
    if all(len(units) == 1 for units in allowed.values()):
        raise UserError(
            "the search space has one strategy only: search.units allows one unit in"
            " every slot; allow more"
        )
    return tuple(allowed[slot.name] for slot in slots)


def _patterns(restriction) -> dict[str, tuple[str, ...]]:
    if isinstance(restriction, Mapping):
        return {k: _split(v) for k, v in restriction.items()}
    found = {}
    for text in restriction or ():
        pattern, equals, units = text.partition("=")
        if not equals:
            raise UserError(
                f"search.units: got {text!r}, expected PATTERN=UNIT,UNIT such as"
                " 'layer4*=ST,S+ST'"
            )
        found[pattern.strip()] = _split(units)
    return found


def _split(units: str | Sequence[str]) -> tuple[str, ...]:
    names = units.split(",") if isinstance(units, str) else units
    return tuple(name.strip() for name in names if name.strip())
