"""One save of a checkpoint, killed at every call that changes a file."""

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

from crash_trials import Trial, arm, done


def make_state(step: int):
    """A state that follows from its step: what comes back can be compared."""
    import jax
    import jax.numpy as jnp

    from stjax.optim import create_optimizer
    from stjax.training.state import create_state

    values = jax.random.normal(jax.random.key(step), (300, 300))
    params = {"wide": {"kernel": values}, "head": {"bias": values[0, :5]}}
    variables = {"params": params, "batch_stats": {"mean": values[1]}}
    state = create_state(variables, create_optimizer(lr=0.1, total_steps=10))
    return state.replace(step=jnp.int32(step))


def save(workdir: Path, steps: range) -> None:
    """Saves checkpoints and metrics as the training loop does."""
    from stjax.training.checkpoint import Checkpoints
    from stjax.training.writer import Writer

    with (
        Checkpoints(workdir, create=True) as checkpoints,
        Writer(workdir, checkpoints.last or 0) as writer,
    ):
        for step in steps:
            writer.write_scalars(step, {"train/loss": 1 / step})
            writer.flush()
            checkpoints.save(make_state(step), {"error": abs(step - 2)})


def save_and_die(shim, workdir: Path, call: int, log: int) -> None:
    """Saves step 3, until a call kills; with call 0 it lives, and tells all calls."""
    make_state(3)  # starts the devices
    arm(shim, workdir, kill=call, log=log)
    save(workdir, range(3, 4))


def check_all(folder: Path, calls: list[int]) -> None:
    """Resumes every workdir; writes the step that each had left."""
    import jax
    import numpy as np

    from stjax.sharding.mesh import make_mesh
    from stjax.training.checkpoint import Checkpoints
    from stjax.training.state import placed, state_shardings

    mesh = make_mesh(devices=jax.devices()[:1])
    state = make_state(0)
    abstract = placed(jax.eval_shape(lambda: state), state_shardings(state, mesh))
    left = []
    for call in calls:
        workdir = folder / f"call{call}"
        for _ in range(2):  # what is left, and after the step has been done again
            with Checkpoints(workdir, create=True) as checkpoints:
                found = checkpoints.restore(abstract)
                step = int(found.step)
                jax.tree.map(np.testing.assert_array_equal, found, make_state(step))
                best = checkpoints.best
            assert step in (2, 3) and best == 2, (call, step, best)
            left.append(step)
            save(workdir, range(step + 1, 4))
        assert left.pop() == 3
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
        shutil.rmtree(workdir)
    (folder / "left.json").write_text(json.dumps(left))


def every_call(shim, folder: Path, most: int) -> dict:
    """Kills one save at every call that changes a file."""
    folder.mkdir(parents=True)
    log = folder / "log.txt"
    done(Trial(save, folder / "two", range(1, 3), log=log))
    shutil.copytree(folder / "two", folder / "count")
    names = os.open(folder / "calls.txt", os.O_CREAT | os.O_RDWR)
    done(Trial(save_and_die, shim, folder / "count", 0, names, log=log))
    os.close(names)
    kinds = [line.split()[1] for line in (folder / "calls.txt").open()]
    count = min(len(kinds), most or len(kinds))
    calls = [int((i + 0.5) * len(kinds) / count) + 1 for i in range(count)]
    for call in calls:
        workdir = folder / f"call{call}"
        shutil.copytree(folder / "two", workdir)
        status = Trial(save_and_die, shim, workdir, call, -1, log=log).wait()
        # The last few may come in another number: threads.
        assert status == -signal.SIGKILL or call > len(kinds) - 10, (call, status)
    done(Trial(check_all, folder, calls, log=log))
    left = json.loads((folder / "left.json").read_text())
    return {
        "calls": len(kinds),
        "killed_at": count,
        "kinds": dict(Counter(kinds[call - 1] for call in calls)),
        "resumed_with_the_checkpoint_before": left.count(2),
        "resumed_with_the_new_one": left.count(3),
    }
