"""Where scalars go besides metrics.jsonl: TensorBoard, Weights & Biases, MLflow.

A logger is made with the (local) folder of the run, the step that it goes on from, the
config as pairs such as ``("data.batch", 16)`` and, of a run that goes on, its `id`.
"""

import importlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from absl import logging

from stjax.errors import UserError, unknown


class Logger(Protocol):
    """Takes scalars.

    Attributes:
      id: under which the service knows the run; None where there is no such thing.
    """

    id: str | None

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes values such as ``{"train/loss": 0.1}``; several times a step, too."""

    def flush(self) -> None:
        """Brings everything to disk."""

    def close(self) -> None:
        """Ends the run."""


class TensorBoard:
    """Event files in ``events/``; steps that are done again replace the old ones."""

    id = None

    def __init__(self, folder: Path, step: int, config: Mapping, id: str | None):
        """See the module."""
        del config, id
        import tensorboardX

        self._events = tensorboardX.SummaryWriter(
            str(folder / "events"),
            purge_step=step + 1 if step else None,
            filename_suffix=f".{step}",  # file names have whole seconds only
        )

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        """See `Logger`."""
        for writer in (self._events.all_writers or {}).values():
            writer.flush()

    def close(self) -> None:
        """See `Logger`."""
        self._events.close()


class Wandb:
    """Weights & Biases, set up by its own variables (WANDB_API_KEY, WANDB_MODE ...).

    The project is WANDB_PROJECT or "stjax". Of steps that are done again it keeps what
    it was told first.
    """

    def __init__(self, folder: Path, step: int, config: Mapping, id: str | None):
        """See the module."""
        del step
        self._run = _module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", "stjax"),
            name=os.environ.get("WANDB_NAME", folder.name),
            dir=str(folder),
            config=dict(config),
            id=id,
            resume="allow",
        )
        self.id = self._run.id

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """It writes by itself."""

    def close(self) -> None:
        """See `Logger`."""
        self._run.finish()


class MLflow:
    """An MLflow server, that of MLFLOW_TRACKING_URI.

    The experiment is MLFLOW_EXPERIMENT_NAME or "stjax". While the server cannot be
    reached, the training goes on and the scalars wait.
    """

    def __init__(self, folder: Path, step: int, config: Mapping, id: str | None):
        """See the module."""
        del step
        _module("mlflow")
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._waiting: list = []
        try:
            self._client = MlflowClient()
            if id is not None:
                self._client.update_run(id, status="RUNNING")
                self.id = id
                return
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "stjax")
            found = self._client.get_experiment_by_name(name)
            place = (
                found.experiment_id if found else self._client.create_experiment(name)
            )
            self.id = self._client.create_run(place, run_name=folder.name).info.run_id
            fields = [Param(key, str(value)[:500]) for key, value in config.items()]
            for start in range(0, len(fields), 100):  # the most it takes at once
                self._client.log_batch(self.id, params=fields[start : start + 100])
        except (MlflowException, OSError, ImportError) as error:
            line = " ".join(str(error).split())[:200]
            raise UserError(
                f"MLflow does not take the run ({line}); set MLFLOW_TRACKING_URI to a"
                " server, or train.loggers=('tensorboard',)"
            ) from error

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._waiting += [Metric(k, float(v), now, step) for k, v in values.items()]
        self.flush()

    def flush(self) -> None:
        """Sends what waits."""
        while self._waiting:
            try:
                self._client.log_batch(self.id, metrics=self._waiting[:1000])
            except Exception as error:  # whatever happens to a network
                logging.warning(
                    "MLflow: %d scalars wait (%s)", len(self._waiting), error
                )
                return
            del self._waiting[:1000]

    def close(self) -> None:
        """See `Logger`."""
        self.flush()
        if self._waiting:
            logging.warning(
                "MLflow never got %d scalars; metrics.jsonl has them",
                len(self._waiting),
            )
        else:
            self._client.set_terminated(self.id)


LOGGERS = {"tensorboard": TensorBoard, "wandb": Wandb, "mlflow": MLflow}


def create_loggers(
    names: Sequence[str],
    folder: Path,
    step: int,
    config: Mapping[str, object],
    ids: Mapping[str, str],
) -> dict[str, Logger]:
    """The loggers of ``train.loggers``.

    Args:
      names: in `LOGGERS`.
      folder: of the run, local.
      step: it goes on from.
      config: of the run, flat.
      ids: of the services that know the run.

    Raises:
      UserError: an unknown name, or a package or a server is missing.
    """
    for name in names:
        if name not in LOGGERS:
            raise unknown("value of train.loggers", name, LOGGERS)
    return {name: LOGGERS[name](folder, step, config, ids.get(name)) for name in names}


def _module(name: str):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"train.loggers has {name!r}, which is not installed:"
            f" pip install 'stjax[{name}]'"
        ) from error
