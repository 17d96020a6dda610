"""A trace of a few training steps, to look at with xprof."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from etils import epath

from stjax.training.writer import say

SKIP, COUNT = 10, 4
"""Steps of a start before the trace (compiling, filling queues), and in it."""


class Profiler:
    """Traces COUNT steps after the first SKIP ones of a start; a context.

    On the first host only, into ``WORKDIR/profile``: ``xprof --port=8791
    --logdir=WORKDIR/profile`` shows it (``pip install 'stjax[profile]'``). Every
    step has a StepTraceAnnotation "train", so that its time is told by step; Flax's
    module names are in the operations' names.
    """

    def __init__(self, workdir: str | epath.Path, wanted: bool, first: int, last: int):
        """Says at once if there are too few steps for a trace.

        Args:
          workdir: local or gs://.
          wanted: False does nothing.
          first: steps already done.
          last: of the run.
        """
        self._folder = epath.Path(workdir) / "profile"
        self._begin, self._end = first + SKIP + 1, first + SKIP + COUNT
        self._local: Path | None = None
        enough = self._end <= last
        if wanted and not enough:
            say(
                f"--profile: no trace; it takes steps {self._begin} to {self._end}, and"
                f" the run ends with step {last}"
            )
        self._wanted = wanted and enough and jax.process_index() == 0

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *unused) -> None:
        if self._local is not None:  # interrupted within
            self._stop()

    @contextlib.contextmanager
    def step(self, step: int, wait: Callable[[], None]) -> Iterator[None]:
        """Around everything that is done for a step, with the wait for its batch.

        Args:
          step: its number, from 1.
          wait: returns when the step that was started last is done.
        """
        if self._wanted and step == self._begin:
            wait()  # what came before is not in the trace
            self._start()
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield
        if self._local is not None and step == self._end:
            wait()
            self._stop()
            say(f"--profile: steps {self._begin} to {self._end} are in {self._folder}")

    def _start(self) -> None:
        self._local = Path(tempfile.mkdtemp(prefix="stjax-profile-"))
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # it would slow down what is measured
        jax.profiler.start_trace(str(self._local), profiler_options=options)

    def _stop(self) -> None:
        """Written locally first: the tracer knows no object stores."""
        local, self._local = self._local, None
        jax.profiler.stop_trace()
        for file in local.rglob("*"):
            if file.is_file():
                target = self._folder / str(file.relative_to(local))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        shutil.rmtree(local)
