"""What the training loop costs beside the step that the devices compute.

    python experiments/benchmarks/loop_overhead.py --out=OUT.json

Runs `stjax.train` with a step that takes a known time and no work of the host's: XLA
calls back and the callback sleeps. Everything else is real: reading batches, putting
them on the device, metrics, goodput. Two figures a step, as shares of its time:

* how much later than the sleep the next step ends. XLA:CPU makes the loop wait within
  such a call, so nothing of the loop is hidden behind the device, unlike on a TPU, and
  other programs on the machine add to it;
* the CPU time of the loop's thread: all the work that it does.

Both also without the loop, for what calling such a step on such a state takes.
"""

import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import stjax
from stjax.config import load_config
from stjax.training.state import TrainState
from stjax.training.step import TrainStep

_OUT = flags.DEFINE_string("out", "", "Writes the figures here, as JSON.")
_STEPS = flags.DEFINE_integer("steps", 100, "Timed steps.")
_MILLISECONDS = flags.DEFINE_float("milliseconds", 100.0, "Of a step.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes that make batches.")

_SKIP = 10  # steps before those that count


def waiting_step(seconds: float, last: int, ends: list[tuple]) -> type[TrainStep]:
    """A training step that changes nothing but the step number, and takes its time.

    Args:
      seconds: that it takes.
      last: after so many the run is stopped.
      ends: gets the time at which each one is done, the main thread's CPU time until
        then, and how long the sleep took.
    """
    clock = time.pthread_getcpuclockid(threading.main_thread().ident)

    def wait(step: np.ndarray) -> np.ndarray:
        start = time.monotonic()
        time.sleep(seconds)
        end = time.monotonic()
        ends.append((end, time.clock_gettime(clock), end - start))
        if len(ends) == last:
            os.kill(os.getpid(), signal.SIGTERM)  # ends the run, as a preemption does
        return np.float32(step)

    class Waiting(TrainStep):
        def __call__(self, state, batch):
            shape = jax.ShapeDtypeStruct((), jnp.float32)
            done = jax.pure_callback(wait, shape, state.step)
            # The batch has to be there, and the next step waits for this one.
            done = done + 0 * batch["input"].ravel()[0]
            step = state.step + 1 + (0 * done).astype(state.step.dtype)
            return state.replace(step=step), {"loss": done, "grad_norm": done}

    return Waiting


def bare(steps: int, seconds: float, state: TrainState) -> np.ndarray:
    """What `ends` gets where such a step is called in a loop with nothing else.

    The state is that of the run: handing its arrays over belongs to the step.
    """
    ends = []
    step_type = waiting_step(seconds, -1, ends)
    step = jax.jit(
        lambda state, batch: step_type.__call__(None, state, batch), donate_argnums=0
    )
    batch = {"input": jnp.zeros(1)}
    for _ in range(steps + _SKIP):
        state, metrics = step(state, batch)
        jax.device_get(metrics)
    return np.array(ends[_SKIP:])


def measure(steps: int, seconds: float, workers: int) -> dict[str, object]:
    """Figures of one run: seconds of a step as the loop makes them."""
    from stjax.training import setup

    ends, real = [], setup.TrainStep
    config = load_config("tau/moving_digits:miniature")
    config.data.workers = workers
    config.data.train_clips = 1000
    # A run as long as real ones, which do not write a line of metrics every step.
    config.train.update(steps=20_000, eval_every=20_000)
    setup.TrainStep = waiting_step(seconds, steps + _SKIP, ends)
    try:
        with tempfile.TemporaryDirectory() as folder:
            stjax.train(config, folder)
    finally:
        setup.TrainStep = real
    late, cpu = _spent(np.array(ends[_SKIP:]))
    state = jax.jit(setup.prepare(config).fresh_state)()
    bare_late, bare_cpu = _spent(bare(steps, seconds, state))
    return {
        "step_seconds": seconds,
        "late_seconds": late,
        "cpu_seconds": cpu,
        "bare": {"late_seconds": bare_late, "cpu_seconds": bare_cpu},
        "overhead": (late - bare_late) / seconds,
        "cpu_overhead": (cpu - bare_cpu) / seconds,
        "steps": steps,
        "workers": workers,
        "load": os.getloadavg()[0],
        "cpus": os.cpu_count(),
    }


def _spent(ends: np.ndarray) -> tuple[float, float]:
    """Medians of a step: seconds beside the sleep, and of the main thread's CPU."""
    between = np.diff(ends, axis=0)
    late = np.median(between[:, 0] - ends[1:, 2])
    return float(late), float(np.median(between[:, 1]))


def main(argv: list[str]) -> None:
    """Prints the figures."""
    del argv
    found = measure(_STEPS.value, _MILLISECONDS.value / 1000, _WORKERS.value)
    print(
        f"a step of {1e3 * found['step_seconds']:.0f} ms: the next one ends"
        f" {1e3 * found['late_seconds']:.2f} ms later than the sleep"
        f" ({1e3 * found['bare']['late_seconds']:.2f} without the loop), CPU time"
        f" {1e3 * found['cpu_seconds']:.2f} ms"
        f" ({1e3 * found['bare']['cpu_seconds']:.2f}): the loop adds"
        f" {100 * found['overhead']:.2f}%, or {100 * found['cpu_overhead']:.2f}% in CPU"
        f" time; load {found['load']:.1f} on {found['cpus']} CPUs"
    )
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
