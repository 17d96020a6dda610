"""``python -m experiments.launch ACTION --job=FILE [--dry_run]``.

Runs the commands of an action, or prints them.
"""

import shlex
import shutil
import subprocess
import sys

from experiments.launch import gcloud, xpk
from experiments.launch.jobs import load_job
from stjax.cli import flagging, running
from stjax.errors import UserError, unknown

ACTIONS = ("setup", "create", "status", "run", "logs", "fetch", "stop", "delete")
_INSTALL = {
    "gcloud": "see https://cloud.google.com/sdk/docs/install",
    "xpk": "pip install xpk",
}


def launch(action: str, /, *, job: str, dry_run: bool = False) -> int:
    """Prints or runs the commands of a job on Cloud TPU.

    Args:
      action: setup (once a project), create (TPUs), status, run (the training), logs,
        fetch (results and picture), stop (the training) or delete (TPUs).
      job: its TOML file, such as experiments/launch/example.toml.
      dry_run: only print the commands.
    """
    if action not in ACTIONS:
        raise unknown("action", action, ACTIONS)
    todo = load_job(job)
    if action == "run":  # a typo is cheaper here than on the machines
        flagging.parse(running.train, todo.flags)
    commands = getattr(xpk if todo.cluster else gcloud, action)(todo)
    if dry_run:
        print("\n".join(map(text, commands)))
        return 0
    for command in commands:
        if shutil.which(command[0]) is None:
            raise UserError(f"{command[0]} is not installed: {_INSTALL[command[0]]}")
    for command in commands:
        if status := subprocess.run(command).returncode:
            return status
    return 0


def text(command: list[str]) -> str:
    """A command for a shell, one flag a line."""
    words = [_quoted(word) for word in command]
    return " ".join(f"\\\n    {w}" if w.startswith("-") else w for w in words)


def _quoted(word: str) -> str:
    name, equals, value = word.partition("=")
    flag = word.startswith("--") and equals
    return f"{name}={shlex.quote(value)}" if flag else shlex.quote(word)


def main(argv: list[str]) -> int:
    """The command line without the program's name; returns the exit status."""
    if not argv or argv[0].lstrip("-") in ("help", "h"):
        usage = flagging.usage("launch", launch)
        print(usage.replace("stjax launch", "python -m experiments.launch", 1))
        return 0
    try:
        words, flags = flagging.parse(launch, argv)
        if not words:
            raise UserError(f"give one of the actions {', '.join(ACTIONS)}")
        return launch(*words, **flags)
    except UserError as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
