"""Flags of a command from the signature of its function.

A keyword parameter is an absl flag of its annotated type (str, int, float, bool, or
`Config` for ``--config=NAME_OR_FILE[:variant] --config.field=value``), required if it
has no default; a positional-only parameter is an argument without a flag. The help is
the docstring: its first line, and the section ``Args``.
"""

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable

import ml_collections
from absl import flags

from stjax.errors import UserError, unknown

Config = ml_collections.ConfigDict

_DEFINE = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
}


def parse(function: Callable, arguments: list[str]) -> tuple[list, dict]:
    """Positional and keyword arguments for a command from its command line.

    Raises:
      UserError: an unknown flag, a wrong value, a missing or superfluous argument.
    """
    parameters = _parameters(function)
    values = flags.FlagValues()
    positional = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_ONLY]
    keyword = {n: p for n, p in parameters.items() if n not in positional}
    config = next((n for n, p in keyword.items() if p.annotation is Config), None)
    if config:
        from stjax.cli import overriding

        arguments = overriding.define(values, config, arguments)
    for name, p in keyword.items():
        if name != config:
            default = None if p.default is p.empty else p.default
            _DEFINE[p.annotation](name, default, "", flag_values=values)
    rest = _parsed(values, arguments, list(keyword))
    if len(rest) > len(positional):
        raise UserError(
            f"unexpected argument {rest[len(positional)]!r}; flags are written"
            f" --name=value: {', '.join('--' + n for n in keyword) or 'none here'}"
        )
    got = {name: values[name].value for name in keyword}
    if config:
        overriding.validate(got[config])
    for name, p in keyword.items():
        if p.default is p.empty and got[name] is None:
            raise UserError(f"--{name} is missing; {_help_of(function)[name]}")
    return rest, got


def _parsed(values: flags.FlagValues, arguments: list[str], known: list[str]):
    """What is left of the command line after the flags, in words where it is wrong."""
    try:
        return values(["stjax", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        raise unknown(
            "flag", f"--{error.flagname}", [f"--{n}" for n in known]
        ) from None
    except flags.Error as error:
        raise UserError(str(error)) from None


def usage(name: str, function: Callable) -> str:
    """The help of a command."""
    parameters, about = _parameters(function), _help_of(function)
    words, lines = [f"usage: stjax {name}"], []
    for key, p in parameters.items():
        if p.kind is p.POSITIONAL_ONLY:
            word = key.upper()
        elif p.annotation is bool:
            word = f"--{key}"
        elif p.annotation is Config:
            word = f"--{key}=NAME_OR_FILE[:VARIANT] [--{key}.FIELD=VALUE ...]"
        else:
            word = f"--{key}={'N' if p.annotation in (int, float) else key.upper()}"
        words.append(word if p.default is p.empty else f"[{word}]")
        label = key.upper() if p.kind is p.POSITIONAL_ONLY else f"--{key}"
        lines.append(_wrap(f"  {label:<12} ", about[key]))
    head = inspect.getdoc(function).split("\n\nArgs:")[0]
    return "\n".join([" ".join(words), "", head, "", *lines]).rstrip()


def _wrap(label: str, text: str) -> str:
    after = " " * len(label)
    return textwrap.fill(text, 80, initial_indent=label, subsequent_indent=after)


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    """Parameters with plain types as annotations: ``int`` for ``int | None``."""
    hints = typing.get_type_hints(function)

    def plain(kind):
        if isinstance(kind, types.UnionType):
            (kind,) = (k for k in typing.get_args(kind) if k is not types.NoneType)
        return kind

    found = inspect.signature(function).parameters
    return {n: p.replace(annotation=plain(hints[n])) for n, p in found.items()}


def _help_of(function: Callable) -> dict[str, str]:
    """Parameter name -> its text in the docstring's section Args."""
    doc = inspect.getdoc(function) + "\n"
    section = re.search(r"\nArgs:\n(.*?)(\n\S|$(?!\n))", doc, re.S)
    items = re.findall(
        r"^  (\w+): (.*?)(?=^  \w+: |\Z)", section[1] if section else "", re.S | re.M
    )
    return {name: " ".join(text.split()) for name, text in items}
