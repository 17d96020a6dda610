"""``stjax train`` and ``stjax evaluate``."""

import json

from etils import epath

from stjax.cli.flagging import Config
from stjax.errors import UserError

# Not 0, so that a job manager knows that the run is not finished; 128 + SIGTERM.
_TERMINATED = 143


def train(
    *,
    config: Config,
    workdir: str,
    profile: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> int:
    """Trains the model of a config; goes on where the workdir's last checkpoint ended.

    Leaves config.json, metrics.jsonl, events/ for TensorBoard, checkpoints/ and, at the
    end, results.json and pictures/ in the workdir. SIGTERM ends it after the step in
    progress, with a checkpoint and exit status 143.

    Args:
      config: such as tau/moving_digits, or your own file; --config.data.path=DIR and so
        on override its fields.
      workdir: folder for everything that the run writes; may be gs://.
      profile: also write a trace of steps 11 to 14 for xprof to WORKDIR/profile.
      coordinator: HOST:PORT of process 0, where several processes share the work and
        neither Cloud TPU, Slurm, Open MPI nor Kubernetes tells; with the next two.
      processes: their number.
      process: which one this is, from 0.
    """
    from stjax import distributed

    distributed.join(coordinator, processes, process)
    from stjax.training.loop import train

    if not train(config, workdir, profile):
        _print(f"stopped before the end; the same command goes on with {workdir}")
        return _TERMINATED
    _print(f"wrote {workdir}/results.json and {workdir}/pictures/test.png")
    return 0


def evaluate(
    *,
    workdir: str,
    split: str = "test",
    step: str = "best",
    output: str | None = None,
    metrics: str | None = None,
    baselines: str | None = None,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Measures a trained model on a split of its data, beside trivial predictions.

    Args:
      workdir: the folder of a training.
      split: train, validation or test (the default).
      step: of the checkpoint: best (the default), last or a number.
      output: also write everything, with per-frame curves, to this .json.
      metrics: in place of the config's, such as mse,csi:threshold=0.5.
      baselines: in place of the config's, such as lagrangian.
      coordinator: HOST:PORT of process 0, where several processes share the work and
        neither Cloud TPU, Slurm, Open MPI nor Kubernetes tells; with the next two.
      processes: their number.
      process: which one this is, from 0.
    """
    from stjax import distributed

    distributed.join(coordinator, processes, process)
    from stjax.evaluation import evaluate

    report = evaluate(
        workdir,
        split,
        checkpoint_step(step),
        metrics=metrics and [metrics],
        baselines=baselines and baselines.split(","),
    )
    _print(f"{workdir}, step {report['step']}, {split} split: {report['clips']} clips")
    if report["skipped"]:
        _print(f"{report['skipped']} clips could not be read and were left out")
    rows = {"model": report["metrics"], **report.get("baselines", {})}
    names = list(report["metrics"])
    widths = [max(14, len(name) + 2) for name in names]
    heads = zip(names, widths, strict=True)
    _print(f"{'':<22}" + "".join(f"{name:>{width}}" for name, width in heads))
    for row, values in rows.items():
        cells = zip(names, widths, strict=True)
        cells = (f"{values[name]:>{width}.5g}" for name, width in cells)
        _print(f"{row:<22}" + "".join(cells))
    if output and _first():
        epath.Path(output).write_text(json.dumps(report, indent=2))
        _print(f"wrote {output}")


def _first() -> bool:
    import jax

    return jax.process_index() == 0


def _print(line: str) -> None:
    """Once, however many processes there are."""
    if _first():
        print(line)


def checkpoint_step(step: str) -> int | str:
    """ "best", "last" or a number, from a flag."""
    if step in ("best", "last"):
        return step
    if not step.isdigit():
        raise UserError(f"--step={step}: expected best, last or a number")
    return int(step)
