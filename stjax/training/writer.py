"""Writes what training measures: JSON lines, loggers such as TensorBoard, a bar."""

import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import tqdm
from etils import epath

from stjax.training.loggers import create_loggers


class Writer:
    """Scalars by step into ``metrics.jsonl`` of a workdir and to its loggers.

    Object stores (gs://) cannot append: there, files are written locally and `flush`
    uploads them. Only the first host writes.
    """

    def __init__(
        self,
        workdir: str | epath.Path,
        step: int = 0,
        loggers: Sequence[str] = ("tensorboard",),
        config: Mapping[str, object] | None = None,
    ):
        """Opens the files of a run that goes on after ``step``.

        What an interrupted run has written about later steps is taken out, because
        these steps will be done again.

        Args:
          workdir: of the run.
          step: of the checkpoint it goes on from.
          loggers: names in `stjax.training.loggers.LOGGERS`; ``loggers.json`` keeps
            under which ids they know the run.
          config: of the run, flat, for the loggers.

        Raises:
          UserError: a logger is unknown or cannot be used.
        """
        self._workdir = epath.Path(workdir)
        self._jsonl = self._staging = None
        if jax.process_index() != 0:
            return
        folder = Path(os.fspath(self._workdir))
        if "://" in str(workdir):
            self._staging = folder = Path(tempfile.mkdtemp(prefix="stjax-"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        known = self._workdir / "loggers.json"
        ids = json.loads(known.read_text()) if step and known.exists() else {}
        self._loggers = create_loggers(loggers, folder, step, config or {}, ids)
        ids |= {name: made.id for name, made in self._loggers.items() if made.id}
        if ids:
            write_whole(known, json.dumps(ids))
        kept = _until(self._workdir / "metrics.jsonl", step)
        write_whole(epath.Path(folder / "metrics.jsonl"), kept)
        self._jsonl = (folder / "metrics.jsonl").open("a")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *unused) -> None:
        if self._jsonl is None:
            return
        for logger in self._loggers.values():
            logger.close()
        self.flush()
        self._jsonl.close()
        if self._staging:
            shutil.rmtree(self._staging)

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values such as ``{"train/loss": 0.1}``; not finite ones as null."""
        if self._jsonl is None:
            return
        values = {name: float(value) for name, value in values.items()}
        for logger in self._loggers.values():
            logger.write_scalars(step, values)
        print(to_json({"step": step, **values}), file=self._jsonl)

    def flush(self) -> None:
        """Brings everything to disk, or to the object store."""
        if self._jsonl is None:
            return
        self._jsonl.flush()
        for logger in self._loggers.values():
            logger.flush()
        if self._staging:
            for file in self._folder.rglob("*"):
                if file.is_file():
                    target = self._workdir / str(file.relative_to(self._folder))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.read_bytes())


def _until(path: epath.Path, step: int) -> str:
    """The lines of a metrics file up to a step; an unfinished last line is dropped."""
    if not path.exists() or step == 0:
        return ""
    lines = path.read_text().splitlines(keepends=True)
    whole = (line for line in lines if line.endswith("\n"))
    return "".join(line for line in whole if json.loads(line)["step"] <= step)


def write_whole(path: epath.Path, text: str) -> None:
    """Writes a file so that it is either the old or the new one, come what may."""
    if "://" in str(path):  # of an object store: so they are
        path.write_text(text)
        return
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def to_json(values: object, indent: int | None = None) -> str:
    """JSON with null for NaN and infinity, which JSON does not have."""
    return json.dumps(_finite(values), indent=indent, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def progress(total: int, first: int, clips: int) -> tqdm.tqdm:
    """A bar over steps with ETA and clips/s; silent where nobody watches.

    Args:
      total: steps of the whole run.
      first: steps already done.
      clips: of one step.
    """
    quiet = not sys.stderr.isatty() or bool(os.environ.get("STJAX_FAST"))
    return tqdm.tqdm(
        total=total * clips,
        initial=first * clips,
        unit=" clips",
        unit_scale=True,
        dynamic_ncols=True,
        disable=quiet or jax.process_index() != 0,
    )


def say(line: str) -> None:
    """Prints a line above the progress bar, on the first host."""
    if jax.process_index() == 0:
        tqdm.tqdm.write(line, file=sys.stderr)
