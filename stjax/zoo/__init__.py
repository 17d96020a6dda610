"""Small trained models that ship, each a folder of `stjax.export.to_folder`."""

from pathlib import Path

from stjax.errors import UserError, unknown

_HERE = Path(__file__).parent


def names() -> list[str]:
    """What `stjax.load` finds here."""
    return sorted(path.parent.name for path in _HERE.glob("*/config.json"))


def folder(name: str) -> Path:
    """The folder of a model.

    Raises:
      UserError: there is no such model; the message names the nearest.
    """
    known = names()
    if name not in known:
        if not known:
            raise UserError(f"no model {name!r}: this installation has no zoo")
        raise unknown("model of the zoo", name, known)
    return _HERE / name


def title(name: str) -> str:
    """What it is in a line: the first paragraph of its card."""
    lines = (folder(name) / "README.md").read_text().split("---", 2)[-1].splitlines()
    told = [line for line in lines if line and line[0] not in "#`"]
    return told[0] if told else ""
