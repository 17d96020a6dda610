"""``stjax datasets build``: any source, written once as shards."""

import ast
import re

from stjax.errors import UserError


def build(
    name: str,
    /,
    *,
    output: str,
    path: str | None = None,
    fields: str = "",
    compress: bool = False,
) -> None:
    """Writes a data source once as ArrayRecord shards, for random access at scale.

    Read it back with --config.data.source=tfds --config.data.path=FOLDER; neither
    needs TensorFlow.

    Args:
      name: the data source, see stjax datasets.
      output: folder that gets NAME/1.0.0.
      path: where the source's own files are.
      fields: further fields of the source, such as t_in=10,t_out=20.
      compress: zlib for every clip; worth it for digits.
    """
    from stjax.data.builder import build

    values = _fields(fields)
    if path is not None:
        values["path"] = path
    folder = build(name, output, compress=compress, **values)
    print(f"wrote {folder}")


def _fields(text: str) -> dict:
    """ "a=1,b=x,c=(1,2)" as a dictionary; what is no Python literal is a string."""
    found = {}
    for part in re.split(r",(?=\s*\w+=)", text) if text else []:
        key, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"--fields: got {part!r}, expected NAME=VALUE,NAME=VALUE")
        try:
            found[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key.strip()] = value
    return found
