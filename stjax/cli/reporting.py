"""``stjax report``."""

from stjax.errors import UserError


def report(
    *,
    workdir: str,
    output: str | None = None,
    clips: int = 3,
    step: str = "best",
) -> None:
    """Writes what a run did and found as one HTML page, to be opened anywhere.

    Results beside trivial answers, curves, predictions and their errors or answers
    and their confusion, attention maps, time, config and versions. The page needs
    neither network nor other files.

    Args:
      workdir: the folder of a training; several with commas between are compared.
      output: the file (default: report.html in the first workdir).
      clips: of the test split, to be shown; 0 (for data that is not here) loads no
        model.
      step: of the checkpoint that is asked: best (the default), last or a number.
    """
    from stjax.cli.running import checkpoint_step
    from stjax.report import write

    if clips < 0:
        raise UserError(f"--clips={clips}; it has to be at least 0")
    workdirs = [part for part in workdir.split(",") if part]
    path = write(workdirs, output, clips=clips, step=checkpoint_step(step))
    print(f"wrote {path}: open it in a browser")
