"""``--config=NAME_OR_FILE[:variant] --config.field=value``, with errors in one line.

ml_collections parses the overrides; here the config is found by name first, and every
field is checked before, because absl would answer a typo with 54 lines.
"""

import ast
import inspect
import re
import types
import typing

import ml_collections
from absl import flags
from ml_collections import config_dict, config_flags

from stjax.config import list_configs, load_config
from stjax.config import validate as validate_config
from stjax.errors import UserError, unknown


class _ListParser(flags.ArgumentParser):
    """A list field: ``--config.field=[1,2]``, ``1,2`` or ``some,words``."""

    kind = list

    def parse(self, argument):
        if isinstance(argument, str):
            try:
                argument = ast.literal_eval(argument)
            except (ValueError, SyntaxError):
                argument = argument.split(",")
        argument = () if argument is None else argument
        several = isinstance(argument, list | tuple)
        return self.kind(argument if several else [argument])


class _TupleParser(_ListParser):
    kind = tuple


config_flags.register_flag_parser_for_type(list, _ListParser())
config_flags.register_flag_parser_for_type(tuple, _TupleParser())


def define(values: flags.FlagValues, name: str, arguments: list[str]) -> list[str]:
    """Loads the config that a command line names and defines flags for its fields.

    Args:
      values: where the flags are defined.
      name: of the flag, "config".
      arguments: the command line without program and command.

    Returns:
      The command line without ``--config=...``; parsing it applies the overrides.

    Raises:
      UserError: the config is not named or not found, or has no such field.
    """
    source, rest = _split(name, arguments)
    if not source:
        raise UserError(
            f"--{name} is missing; give the name of a config or a file:"
            f" {', '.join(list_configs())}"
        )
    config = load_config(source)
    for field in _overridden(name, rest):
        _check(config, field)
    try:
        config_flags.DEFINE_config_dict(
            name, config, flag_values=values, sys_argv=["stjax", *rest]
        )
    except (flags.Error, ValueError, KeyError, TypeError) as error:
        raise UserError(str(error)) from None
    return rest


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks the overridden config (`stjax.config.validate`)."""
    validate_config(config)


def _split(name: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    """The value of ``--config``, the last one given, and the other arguments."""
    source, rest, left = None, [], iter(arguments)
    for argument in left:
        if argument in (f"--{name}", f"-{name}"):
            source = next(left, None)
        elif re.match(rf"--?{name}=", argument):
            source = argument.partition("=")[2]
        else:
            rest.append(argument)
    return source, rest


def _overridden(name: str, arguments: list[str]) -> list[str]:
    """The fields that the command line overrides, such as "data.batch"."""
    found = (re.match(rf"--?(?:no)?{name}\.([^=]*)", a) for a in arguments)
    return [match[1] for match in found if match]


def _check(config: ml_collections.ConfigDict, field: str) -> None:
    """Refuses an unknown field; makes room for one that only a constructor knows."""
    section, at = config, ""
    *parents, last = field.split(".")
    for key in parents:
        _known(section, key, at, section.keys())
        section, at = section[key], f"{at}{key}."
        if not isinstance(section, ml_collections.ConfigDict):
            raise UserError(f"config field {at[:-1]} has no fields: {field!r}")
    if last in section:
        if isinstance(section[last], ml_collections.ConfigDict):
            raise UserError(
                f"config field {field!r} is a section; override one of"
                f" {', '.join(f'{field}.{k}' for k in section[last])}"
            )
        return
    more = _constructor_fields(config, at[:-1], last)
    _known(section, last, at, [*section.keys(), *more])
    with config.unlocked():
        section[last] = config_dict.placeholder(more[last])


def _known(section, key: str, at: str, known) -> None:
    if key not in known:
        raise unknown("config field", f"{at}{key}", [f"{at}{k}" for k in known])


def _constructor_fields(config: ml_collections.ConfigDict, section: str, field: str):
    """Keyword -> flag type of what takes a section's fields; ``object`` for any."""
    if section == "model" and config.model.name:
        from stjax.models.registry import model_fields

        return {
            n: _flag_type(type(v)) for n, v in model_fields(config.model.name).items()
        }
    if section == "data" and config.data.source:
        from stjax.data.sources import source_class

        parameters = inspect.signature(source_class(config.data.source)).parameters
        return {
            n: _flag_type(p.annotation) for n, p in parameters.items() if n != "split"
        }
    if section == "optim":  # Optimizer and schedule take some each, and check them.
        return {field: object}
    return {}


def _flag_type(annotation) -> type:
    """The type a flag parses to; ``object`` takes any Python literal."""
    if isinstance(annotation, types.UnionType):
        kinds = [k for k in typing.get_args(annotation) if k is not types.NoneType]
        annotation = kinds[0] if len(kinds) == 1 else object
    annotation = typing.get_origin(annotation) or annotation
    return annotation if annotation in (str, int, float, bool, tuple) else object
