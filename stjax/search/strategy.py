"""Strategies in files and in words.

A strategy file is JSON, for people to write and keep::

    {"format": 1, "model": "densenet121_3d", "slots": ["B1.L1", ...],
     "units": ["S+ST", ...]}

Its short form has a letter a slot, as in ``+++++ts+++`` for S+ST, ST and S.
"""

import json
from collections.abc import Mapping, Sequence

from etils import epath

from stjax.errors import UserError
from stjax.layers.slots import Strategy
from stjax.search.published import STRATEGIES, published_strategy
from stjax.search.space import Space
from stjax.training.writer import write_whole

FORMAT = 1
# Those that have always been written so.
_LETTERS = {"S": "s", "ST": "t", "S+ST": "+", "T": "T"}
_MORE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def letters(space: Space) -> dict[str, str]:
    """A letter for each unit: the usual one, or the first of its name that is free."""
    units = dict.fromkeys(unit for slot in space.slots for unit in slot.choices)
    found = {unit: _LETTERS[unit] for unit in units if unit in _LETTERS}
    for unit in units:
        if unit not in found:
            free = (c for c in unit + _MORE if c not in found.values() and c.isalnum())
            found[unit] = next(free)
    return found


def short(space: Space, strategy: Sequence[str]) -> str:
    """A letter a slot."""
    known = letters(space)
    return "".join(known[unit] for unit in strategy)


def to_dict(space: Space, strategy: Sequence[str]) -> dict:
    """The content of a strategy file."""
    return {
        "format": FORMAT,
        "model": space.model,
        "slots": [slot.name for slot in space.slots],
        "units": list(space.check(strategy)),
    }


def write_strategy(
    path: str | epath.Path, space: Space, strategy: Sequence[str]
) -> None:
    """Writes a strategy file."""
    text = json.dumps(to_dict(space, strategy), indent=2)
    write_whole(epath.Path(path), text + "\n")


def read_strategy(path: str | epath.Path, space: Space) -> Strategy:
    """Reads a strategy file.

    Raises:
      UserError: no such file, none of a strategy, or one of another space.
    """
    path = epath.Path(path)
    if not path.exists():
        raise UserError(f"there is no strategy file {path}; check the path")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no strategy file: {error}") from None
    fields = ("format", "model", "slots", "units")
    if not isinstance(values, Mapping) or any(field not in values for field in fields):
        raise UserError(
            f"{path} is no strategy file: expected JSON with {', '.join(fields)}"
        )
    if values["format"] != FORMAT:
        raise UserError(
            f"{path} has format {values['format']!r}, this stjax reads {FORMAT}"
        )
    names = [slot.name for slot in space.slots]
    if values["model"] != space.model or values["slots"] != names:
        raise UserError(
            f"{path} is a strategy of another space: {values['model']} with"
            f" {len(values['slots'])} slots; this one is {space.model} with"
            f" {len(names)} slots ({names[0]} ... {names[-1]})"
        )
    return _checked(str(path), space, values["units"])


def parse_strategy(
    text: str, space: Space, known: Mapping[str, Strategy] | None = None
) -> Strategy:
    """A strategy in the words of a user.

    Args:
      text: a file ``*.json``; a unit, for all slots; units with commas between; a
        letter a slot, see `letters`; or a name in ``known``.
      space: it is to be one of.
      known: strategies by name, such as "mode".

    Raises:
      UserError: it is none of these, or of another space.
    """
    known = known or {}
    if text in known:
        return space.check(known[text])
    if text.endswith(".json"):
        return read_strategy(text, space)
    if text in {unit for slot in space.slots for unit in slot.choices}:
        return space.check((text,) * len(space.slots))
    if "," in text:
        return _checked(text, space, [unit.strip() for unit in text.split(",")])
    units = {letter: unit for unit, letter in letters(space).items()}
    if text and set(text) <= units.keys():
        return _checked(text, space, [units[letter] for letter in text])
    told = ", ".join(f"{letter} {unit}" for letter, unit in units.items())
    names = "".join(f", {name}" for name in known)
    raise UserError(
        f"{text!r} is no strategy: expected a .json file, a unit for all slots, units"
        f" with commas between, {len(space.slots)} letters ({told}){names}"
    )


def known_strategies(space: Space, mode: Strategy) -> dict[str, Strategy]:
    """Strategies with a name: "mode", and the data sets of the published ones.

    Args:
      space: of a search.
      mode: of its posterior.
    """
    published = STRATEGIES.get(space.model, ())
    return {name: published_strategy(space.model, name) for name in published} | {
        "mode": mode
    }


def _checked(what: str, space: Space, units: Sequence[str]) -> Strategy:
    try:
        return space.check(units)
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
