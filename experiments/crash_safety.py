"""What survives kill -9 and a full disk: every write of a save, and random moments.

    python experiments/crash_safety.py --workdir=DIR [--kills=20] [--calls=0] [--full=5]

Needs a C compiler: `crash_shim.c`, preloaded, counts the calls (write, fsync, rename,
mkdir, unlink ...) that change files of a workdir, whoever makes them, and ends the
process at one of them. A process is forked for every trial before JAX starts devices.

1. ``--calls`` (0: all): one checkpoint is saved, killed at call 1, 2, 3 ...; afterwards
   the workdir must resume with that checkpoint or the one before, bit for bit.
2. ``--kills``: a run is killed at random moments and started again, in one workdir; it
   must lose no more than the work since the last checkpoint and end bit-equal.
3. ``--full``: the disk is full from a random call on; the run must stop with one line
   and status 2, and end bit-equal when there is room again.

Writes DIR/crash_safety.json and .md.
"""

import argparse
import json
import mmap
import os
import random
import shutil
import signal
import struct
import time
from collections import Counter
from pathlib import Path

from crash_trials import Trial, arm, done, preload

_STEPS, _SAVE_EVERY = 300, 10


# 1. One save, killed at every call.


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
            writer.scalars(step, {"train/loss": 1 / step})
            writer.flush()
            checkpoints.save(make_state(step), {"error": abs(step - 2)})


def save_and_die(shim, workdir: Path, call: int, log: int) -> None:
    """Saves step 3, until a call kills; with call 0 it lives, and tells all calls."""
    make_state(3)  # starts the devices
    arm(shim, workdir, kill=call, log=log)
    save(workdir, range(3, 4))


def check_all(folder: Path, calls: int) -> None:
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
    for call in range(1, calls + 1):
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
    for call in range(1, count + 1):
        workdir = folder / f"call{call}"
        shutil.copytree(folder / "two", workdir)
        status = Trial(save_and_die, shim, workdir, call, -1, log=log).wait()
        # The last few may come in another number: threads.
        assert status == -signal.SIGKILL or call > len(kinds) - 10, (call, status)
    done(Trial(check_all, folder, count, log=log))
    left = json.loads((folder / "left.json").read_text())
    return {
        "calls": len(kinds),
        "killed_at": count,
        "kinds": dict(Counter(kinds[:count])),
        "resumed_with_the_checkpoint_before": left.count(2),
        "resumed_with_the_new_one": left.count(3),
    }


# 2. and 3. A training.


def train(workdir: Path, progress: mmap.mmap | None = None, begin=None) -> None:
    """A small training; tells its step, and is slow enough to be hit."""
    from stjax import cli
    from stjax.training import loop

    put, before = loop.put_batch, loop.first_state
    first = []

    def first_state(*arguments):
        state, shardings = before(*arguments)
        first.append(int(state.step))
        if begin:
            begin()
        return state, shardings

    def put_batch(mesh, batch):
        if progress is not None:
            progress[:8] = struct.pack("q", first[0])
            first[0] += 1
            time.sleep(0.05)
        return put(mesh, batch)

    loop.put_batch, loop.first_state = put_batch, first_state
    cli.main(
        ["stjax", "train", f"--workdir={workdir}"]
        + [f"--config={Path(__file__).with_name('crash_toy.py')}"]
        + [f"--config.train.steps={_STEPS}", f"--config.train.save_every={_SAVE_EVERY}"]
    )


def outcome(workdir: Path) -> tuple:
    """All losses, digit for digit, and the results: of runs that are to be equal."""
    lines = [json.loads(t) for t in (workdir / "metrics.jsonl").open()]
    losses = {v["step"]: v["train/loss"] for v in lines if "train/loss" in v}
    results = json.loads((workdir / "results.json").read_text())
    return losses, results["metrics"], results["best_step"]


def newest(workdir: Path) -> int:
    """The last complete checkpoint; 0 for none."""
    steps = [p.name for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
    return max(map(int, steps), default=0)


def random_kills(folder: Path, kills: int, rng: random.Random) -> dict:
    """Kills a run at random moments; goes on; compares with an uninterrupted one."""
    folder.mkdir(parents=True)
    log, progress = folder / "log.txt", mmap.mmap(-1, 8)
    start = time.monotonic()
    done(Trial(train, folder / "whole", log=log))
    whole = time.monotonic() - start
    expected = outcome(folder / "whole")
    lost, left, run, kept = [], kills, 0, 0
    while left:
        workdir = folder / f"killed{run}"
        progress[:8] = struct.pack("q", -1)
        trial = Trial(train, workdir, progress, log=log)
        early = rng.random() < 0.25  # while it starts, or else while it trains
        while not early and struct.unpack("q", progress[:8])[0] < 0:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, min(whole, 4) if early else 2))
        os.kill(trial.pid, signal.SIGKILL)
        if trial.wait() == 0:  # it was at its end
            assert outcome(workdir) == expected
            run, kept = run + 1, 0
            continue
        left -= 1
        step = struct.unpack("q", progress[:8])[0]
        last = newest(workdir)
        assert last >= kept, "a checkpoint has gone"
        kept = last
        if step >= 0:
            lost.append(step - last)
    done(Trial(train, workdir, log=log))
    assert outcome(workdir) == expected, "the resumed run is not bit-equal"
    return {"kills": kills, "while_starting": kills - len(lost), "steps_lost": lost}


def full_disk(shim, folder: Path, trials: int, rng: random.Random) -> dict:
    """The disk is full from a random call on, and then has room again."""
    folder.mkdir(parents=True)
    log, said, at = folder / "log.txt", [], []
    done(Trial(train, folder / "whole", log=log))
    for index in range(trials):
        workdir, call = folder / f"full{index}", rng.randrange(1, 1200)

        def begin(workdir=workdir, call=call):
            arm(shim, workdir, full=call)

        status = Trial(train, workdir, None, begin, log=log).wait()
        lines = [t for t in log.read_text().splitlines() if t.startswith("stjax: ")]
        assert status == 2 and len(lines) == 1, (status, log.read_text()[-3000:])
        said.append(lines[0].replace(str(workdir), "WORKDIR"))
        at.append(newest(workdir))
        done(Trial(train, workdir, log=log))
        assert outcome(workdir) == outcome(folder / "whole")
    return {"trials": trials, "checkpoint_left": at, "said": sorted(set(said))}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--full", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    shim, rng = preload(), random.Random(arguments.seed)
    import stjax.training.loop  # noqa: F401  once, for all forks

    folder, report = arguments.workdir.resolve(), {}
    for name in ("calls", "kills", "full"):
        shutil.rmtree(folder / name, ignore_errors=True)
    report["every_call"] = every_call(shim, folder / "calls", arguments.calls)
    if arguments.kills:
        report["kills"] = random_kills(folder / "kills", arguments.kills, rng)
    if arguments.full:
        report["full"] = full_disk(shim, folder / "full", arguments.full, rng)
    (folder / "crash_safety.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
