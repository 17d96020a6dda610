"""``stjax COMMAND``: each command calls one function that a notebook can call too.

To add a command, write a function whose keyword parameters are its flags and whose
docstring is its help (see `stjax.cli.flagging`), and add one line to `COMMANDS`.
"""

import errno
import importlib
import logging as stdlib_logging
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from stjax.cli import flagging
from stjax.cli.caching import keep_compiled
from stjax.errors import UserError, unknown
from stjax.pages import keep_pages

# name -> (where the function lives, what `stjax --help` says).
COMMANDS = {
    "train": ("stjax.cli.running:train", "train the model of a config, or resume"),
    "evaluate": ("stjax.cli.running:evaluate", "measure a trained model on a split"),
    "predict": ("stjax.cli.predicting:predict", "predict the next frames of a clip"),
    "report": ("stjax.cli.reporting:report", "write a run as one HTML page"),
    "export": ("stjax.cli.exporting:export", "write a model as files for others"),
    "convert": ("stjax.cli.exporting:convert", "take a PyTorch checkpoint over"),
    "compile": ("stjax.cli.compiling:compile", "ask whether and how it runs on a TPU"),
    "search fit": ("stjax.cli.searching:fit", "train a template of strategies"),
    "search rank": ("stjax.cli.searching:rank", "score strategies with its weights"),
    "search show": ("stjax.cli.searching:show", "draw what a search has found"),
    "search export": ("stjax.cli.searching:export", "a strategy as an ordinary model"),
    "search fidelity": (
        "stjax.cli.searching:fidelity",
        "train strategies alone: is the ranking true?",
    ),
    "datasets": ("stjax.cli.listing:datasets", "list the data sources"),
    "datasets build": ("stjax.cli.building:build", "write a source as shards"),
    "models": ("stjax.cli.listing:models", "list the models"),
    "doctor": ("stjax.doctor:doctor", "check this installation"),
}

_USER_ERROR = 2  # exit statuses
_INTERRUPTED = 130
_TERMINATED = 143  # by SIGTERM, after saving

# What is wrong with a path that was given, found where it is used.
_PATH_ERRORS = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0, 1 on failure, 2 on a user's error, 130 on Ctrl-C.

    Args:
      argv: the command line with the program's name; None takes ``sys.argv``.
    """
    keep_compiled()
    if "jax" not in sys.modules:  # else the program is one of the user's own
        keep_pages()
    app.run(_run, argv=argv, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> Callable[[], int | None]:
    """The command line as a call. Instead of absl's own flags and usage dumps."""
    if not flags.FLAGS.is_parsed():  # Grain reads absl's global flags.
        flags.FLAGS.mark_as_parsed()
    return lambda: _dispatch(list(argv[1:]))


def _dispatch(arguments: list[str]) -> int | None:
    name, *rest = arguments or ["--help"]
    if name.lstrip("-") in ("help", "h", "helpfull", "helpshort"):
        if rest[:1] and rest[0] in COMMANDS:  # stjax help train
            return _dispatch([rest[0], "--help"])
        print(_help())
        return 0
    if name == "--version":
        from stjax import __version__

        print(f"stjax {__version__}")
        return 0
    if rest and f"{name} {rest[0]}" in COMMANDS:  # a command of two words
        name = f"{name} {rest.pop(0)}"
    if name not in COMMANDS:
        if rest and any(known.startswith(f"{name} ") for known in COMMANDS):
            name = f"{name} {rest[0]}"
        raise unknown("command", name, COMMANDS)
    where, _ = COMMANDS[name]
    module, _, attribute = where.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    if any(a.lstrip("-") in ("help", "h", "helpfull", "helpshort") for a in rest):
        print(flagging.usage(name, function))
        return 0
    return function(*(parsed := flagging.parse(function, rest))[0], **parsed[1])


def _run(call: Callable[[], int | None]) -> int:
    status = _status(call)
    if status not in (0, _TERMINATED) and "stjax.distributed" in sys.modules:
        sys.modules["stjax.distributed"].leave(status)
    return status


def _status(call: Callable[[], int | None]) -> int:
    logging.set_verbosity(logging.WARNING)  # absl.app raises it to INFO
    logging.get_absl_logger().addFilter(_worth_reading)
    try:
        return call() or 0
    except UserError as error:
        print(f"stjax: {' '.join(str(error).split())}", file=sys.stderr)
        return _USER_ERROR
    except _PATH_ERRORS as error:
        print(f"stjax: {error.filename}: {error.strerror}", file=sys.stderr)
        return _USER_ERROR
    except BrokenPipeError:  # `stjax models | head`
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in _FULL:
            traceback.print_exc()
            return 1
        print(f"stjax: {error.strerror}; make room and try again", file=sys.stderr)
        return _USER_ERROR
    except KeyboardInterrupt:
        print("stjax: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception:
        traceback.print_exc()
        return 1


def _worth_reading(record) -> bool:
    """Orbax warns of how it is used here; what a user can do about is an error."""
    return record.levelno >= stdlib_logging.ERROR or "orbax" not in record.pathname


def _help() -> str:
    lines = ["stjax: learning from video and other space-time grids in JAX", ""]
    lines += ["usage: stjax COMMAND [--flag=value ...]", ""]
    lines += [f"  {name:<15} {what}" for name, (_, what) in COMMANDS.items()]
    lines += ["", "stjax COMMAND --help tells the flags of a command, for example:"]
    lines += ["  stjax train --config=tau/moving_digits --workdir=runs/digits"]
    return "\n".join(lines)
