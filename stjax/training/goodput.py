"""Where the seconds of a run go: the share that trained is its goodput."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import jax

PHASES = ("init", "data", "step", "checkpoint", "evaluation")


class Goodput:
    """Counts seconds by phase, over all starts of a run.

    ``init`` is opening, restoring and compiling, once a start; ``data`` waiting for the
    next batch; ``step`` training; ``checkpoint`` and ``evaluation`` what they stop
    training for. Time in which a device still computes a training step is ``step``,
    whatever the host does meanwhile: a batch that is ready in time costs nothing. What
    is lost with an interrupted process (steps after its last checkpoint, the wait for
    another machine) is not counted.

    Attributes:
      seconds: of each phase.
    """

    def __init__(self):
        """Starts the clock."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._start = time.monotonic()
        self._watch = ThreadPoolExecutor(1, "goodput")
        self._begun, self._done = 0.0, None

    def begin(self, saved: Mapping[str, float]) -> None:
        """Ends ``init``, and adds what `saved` gave to the checkpoint of this start."""
        self.seconds["init"] += self.total
        for name in PHASES:
            self.seconds[name] += saved.get(f"goodput_{name}", 0.0)
        self._start -= saved.get("goodput_total", 0.0)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts what is done within it as the phase ``name``; phases do not nest."""
        start = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            busy = self._busy(start, end)
            self.seconds["step"] += busy
            self.seconds[name] += end - start - busy

    def computing(self, result: jax.Array) -> None:
        """Tells that a step has been started whose end is when ``result`` is there."""
        self._begun = time.monotonic()
        self._done = self._watch.submit(_when_ready, result)

    def _busy(self, start: float, end: float) -> float:
        """Seconds between two times in which the step started last was computed."""
        if self._done is None:
            return 0.0
        done = self._done.result() if self._done.done() else end
        return max(0.0, min(done, end) - max(self._begun, start))

    @property
    def total(self) -> float:
        """Seconds of all starts so far."""
        return time.monotonic() - self._start

    def saved(self) -> dict[str, float]:
        """For a checkpoint, see `begin`."""
        return {f"goodput_{k}": v for k, v in self.seconds.items()} | {
            "goodput_total": self.total
        }

    def scalars(self) -> dict[str, float]:
        """For `Writer.scalars`: seconds so far, ``goodput/init`` and so on."""
        return {f"goodput/{k}": v for k, v in self.seconds.items()}

    def report(self) -> dict[str, dict[str, float]]:
        """For results.json: ``seconds`` and ``shares``; ``other`` is the rest."""
        total = self.total
        other = max(0.0, total - sum(self.seconds.values()))
        seconds = {**self.seconds, "other": other}
        shares = {name: value / total for name, value in seconds.items()}
        return {"seconds": {**seconds, "total": total}, "shares": shares}


def _when_ready(result: jax.Array) -> float:
    jax.block_until_ready(result)
    return time.monotonic()


def line(report: Mapping[str, Mapping[str, float]]) -> str:
    """A `Goodput.report` in words, the largest share first."""
    shares = sorted(report["shares"].items(), key=lambda item: -item[1])
    found = "  ".join(f"{name} {100 * share:.1f}%" for name, share in shares)
    return f"goodput of {report['seconds']['total']:.0f} s: {found}"
