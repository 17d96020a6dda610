"""The page: facts of one or several runs, put into the template."""

import datetime
import importlib.resources
import os
from collections.abc import Sequence

from etils import epath

from stjax import __version__
from stjax.errors import UserError
from stjax.report.comparison import comparison
from stjax.report.records import Record, read
from stjax.report.sections import section


def write(
    workdirs: str | os.PathLike | Sequence[str | os.PathLike],
    output: str | os.PathLike | None = None,
    *,
    clips: int = 3,
    step: int | str | None = None,
) -> epath.Path:
    """Writes what one or several runs did and found as one HTML page.

    The page needs no network and no other file: pictures, animations and style are
    within it, and it runs no script.

    Args:
      workdirs: of `stjax.train`; may be remote (gs://). Several are compared.
      output: the file; by default report.html in the (first) workdir.
      clips: of the test split, for which the model is asked; 0: the model and its
        data are not loaded.
      step: of the checkpoint for these: "best" (the default), "last" or a number.

    Returns:
      The file.

    Raises:
      UserError: one of them is not the workdir of a run.
    """
    if isinstance(workdirs, str | os.PathLike):
        workdirs = [workdirs]
    if not workdirs or clips < 0:
        raise UserError(
            f"a report of {len(workdirs)} runs with clips={clips}; expected one run or"
            " more, and 0 clips or more"
        )
    records = [read(workdir) for workdir in workdirs]
    target = epath.Path(output or records[0].workdir / "report.html")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(records, clips=clips, step=step))
    return target


def page(
    records: Sequence[Record], *, clips: int = 3, step: int | str | None = None
) -> str:
    """The page as text, see `write`."""
    now = datetime.datetime.now(datetime.UTC)
    names = [record.name for record in records]
    return _template().render(
        title=", ".join(dict.fromkeys(names)),
        runs=[section(record, clips, step) for record in records],
        comparison=comparison(records) if len(records) > 1 else None,
        version=__version__,
        date=f"{now:%Y-%m-%d %H:%M} UTC",
    )


def _template():
    """The template with its style."""
    import jinja2

    def load(name: str) -> str:
        return importlib.resources.files("stjax.report").joinpath(name).read_text()

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html")
