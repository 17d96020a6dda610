"""SIGTERM: what job managers and clouds send before they take a machine away."""

import signal
import threading

import jax

from stjax.training.writer import say


class Termination:
    """Within it, the first SIGTERM is a request to stop; a second one kills.

    Only on a single host: where there are several, they have to stop after the same
    step, and JAX's runtime catches the signal for all (see
    `Checkpoints.reached_preemption`). Nor outside the main thread, where Python allows
    no signal handlers.

    Attributes:
      requested: whether SIGTERM has come.
    """

    def __init__(self):
        self.requested = False
        self._before = None

    def __enter__(self) -> "Termination":
        main = threading.current_thread() is threading.main_thread()
        if main and jax.process_count() == 1:
            self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *unused) -> None:
        self._restore()

    def _handle(self, *unused) -> None:
        self.requested = True
        self._restore()
        say("SIGTERM: finishing this step and saving a checkpoint")

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None
