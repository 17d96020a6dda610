"""Reads the metrics of a step while the devices compute the next one."""

import math
import time

import jax
import tqdm

from stjax.errors import UserError
from stjax.training.goodput import Goodput
from stjax.training.writer import Writer

_LINES = 2000  # metrics.jsonl gets about so many lines of training loss


class Meter:
    """Checks, writes and times the training steps.

    Attributes:
      loss: of the last step that was read.
      seconds: since the start of the run, interruptions left out.
    """

    def __init__(
        self,
        writer: Writer,
        bar: tqdm.tqdm,
        clips: int,
        steps: int,
        goodput: Goodput,
        before: float = 0,
    ):
        """Starts the clock.

        Args:
          writer: gets the scalars.
          bar: counts clips.
          clips: of one step.
          steps: of the whole run.
          goodput: gets told when a step has been started.
          before: seconds that the run took before it was interrupted.
        """
        self._writer, self._bar, self._clips, self._steps = writer, bar, clips, steps
        self._goodput = goodput
        self._every = max(1, steps // _LINES)
        self._late: tuple[int, dict] | None = None
        self._start = time.monotonic() - before
        self._mark: float | None = None
        self._timed_steps, self._timed_seconds = 0, 0.0
        self.loss = math.nan

    @property
    def seconds(self) -> float:
        """See the class."""
        return time.monotonic() - self._start

    @property
    def clips_per_second(self) -> float | None:
        """Training speed; compiling, evaluating and saving left out."""
        if not self._timed_seconds:
            return None
        return self._timed_steps * self._clips / self._timed_seconds

    def later(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of a step that has been started, reads those before."""
        self._read()
        self._late = step, metrics
        self._goodput.computing(metrics["loss"])
        now = time.monotonic()
        if self._mark is not None:
            self._timed_steps += 1
            self._timed_seconds += now - self._mark
        self._mark = now

    def settle(self) -> None:
        """Waits for the step that was started last, and stops timing steps.

        Raises:
          UserError: its loss or its gradient is not finite.
        """
        with self._goodput.phase("step"):
            self._read()
        self._late = self._mark = None

    def _read(self) -> None:
        if self._late is None:
            return
        step, metrics = self._late
        metrics = {k: float(v) for k, v in jax.device_get(metrics).items()}
        self.loss = metrics["loss"]
        if not (math.isfinite(self.loss) and math.isfinite(metrics["grad_norm"])):
            raise UserError(
                f"step {step}: the loss is {self.loss} and its gradient's norm"
                f" {metrics['grad_norm']}, not finite; the last good checkpoint is"
                " kept. Lower optim.lr, set optim.clip, or check the data"
            )
        self._bar.update(self._clips)
        self._bar.set_postfix(loss=f"{self.loss:.4g}", step=step, refresh=False)
        if step % self._every == 0 or step == self._steps:
            speed = self.clips_per_second
            extra = {"clips_per_second": speed} if speed else {}
            values = {f"train/{k}": v for k, v in (metrics | extra).items()}
            self._writer.write_scalars(step, values)
