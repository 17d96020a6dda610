"""What survives kill -9 and a full disk: every write of a save, and random moments.

    python experiments/crash_safety.py --workdir=DIR [--kills=20] [--calls=0] [--full=5]

Needs a C compiler: `crash_shim.c`, preloaded, counts the calls (write, fsync, rename,
mkdir, unlink ...) that change files of a workdir, whoever makes them, and ends the
process at one of them. A process is forked for every trial before JAX starts devices.

1. ``--calls`` (so many of them; 0: all): one checkpoint is saved and killed at call 1,
   2, 3 ...; afterwards the workdir must resume with that checkpoint or the one before,
   bit for bit.
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
from pathlib import Path

from crash_save import every_call
from crash_trials import Trial, arm, done, preload

_SAVE_EVERY = 10


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
            if len(first) > 1:  # the first step has been compiled
                progress[:8] = struct.pack("q", first[0])
            first[0] += 1
            first.append(first[0])
            time.sleep(0.05)
        return put(mesh, batch)

    loop.put_batch, loop.first_state = put_batch, first_state
    cli.main(
        ["stjax", "train", f"--workdir={workdir}"]
        + [f"--config={Path(__file__).with_name('crash_toy.py')}"]
        + [
            f"--config.train.steps={os.environ['CRASH_STEPS']}",
            f"--config.train.save_every={_SAVE_EVERY}",
        ]
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

    def steps() -> int:
        return struct.unpack("q", progress[:8])[0]

    def start(workdir: Path) -> Trial:
        progress[:8] = struct.pack("q", -1)
        return Trial(train, workdir, progress, log=log)

    begin = time.monotonic()
    trial = start(folder / "whole")
    while steps() < 0 and not trial.ended():
        time.sleep(0.01)
    starting = time.monotonic() - begin
    done(trial)
    expected = outcome(folder / "whole")
    lost, left, run, kept = [], kills, 0, 0
    while left:
        workdir = folder / f"killed{run}"
        trial = start(workdir)
        if left % 4 == 0:  # while it starts, or else while it trains
            time.sleep(rng.uniform(0, starting))
        else:
            while steps() < 0 and not trial.ended():
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 2))
        os.kill(trial.pid, signal.SIGKILL)
        if trial.wait() == 0:  # it was at its end
            assert outcome(workdir) == expected
            run, kept = run + 1, 0
            continue
        left -= 1
        step, last = steps(), newest(workdir)
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


def text(report: dict) -> str:
    """The report to read."""
    save = report["every_call"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in save["kinds"].items())
    lines = [
        "# Crash safety\n",
        f"One save of a checkpoint changes files by {save['calls']} calls. Killed at"
        f" {save['killed_at']} of them ({kinds}); every time the workdir resumed:"
        f" {save['resumed_with_the_checkpoint_before']} times with the checkpoint"
        f" before, {save['resumed_with_the_new_one']} times with the new one, bit for"
        " bit.\n",
    ]
    if kills := report.get("kills"):
        lost = kills["steps_lost"]
        lines.append(
            f"A run that saves every {_SAVE_EVERY} steps, in the background, killed at"
            f" {kills['kills']} random moments ({kills['while_starting']} of them"
            " before its first step): it ended bit-equal to an uninterrupted one. Steps"
            f" that had to be done again: {', '.join(map(str, lost))}; more than"
            f" {_SAVE_EVERY} where the next save was not complete.\n"
        )
    if full := report.get("full"):
        said = "\n".join(f"    {line}" for line in full["said"])
        lines.append(
            f"A disk that is full from a random call on, {full['trials']} times: the"
            " run stopped with one line and status 2, and with room again it ended"
            f" bit-equal to an uninterrupted one. Last checkpoints at the stop:"
            f" {', '.join(map(str, full['checkpoint_left']))}. It said\n\n{said}\n"
        )
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--full", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["CRASH_STEPS"] = str(arguments.steps)
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
    (folder / "crash_safety.md").write_text(text(report))
    print(text(report))


if __name__ == "__main__":
    main()
