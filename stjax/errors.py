"""Errors a user can cause, told in one line."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the caller can put right: a missing file, a wrong shape, a typo.

    The message is one line that says what was got, what was expected and what to
    do. The command line prints it and exits with status 2, without a traceback.
    """


def unknown(kind: str, got: str, known: Iterable[str]) -> UserError:
    """A `UserError` for an unknown name, with the nearest known one.

    Args:
      kind: what the name stands for, such as ``"model"`` or ``"field of data"``.
      got: the name that was given.
      known: the names there are.
    """
    names = sorted(known)
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
    return UserError(f"unknown {kind} {got!r}; {hint}")
