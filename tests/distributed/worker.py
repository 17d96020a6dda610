"""One of two processes: `python worker.py FOLDER COORDINATOR INDEX LAUNCH`.

Launch 1 trains to the end (``whole``), then trains again (``stopped``) until process 1
gets a SIGTERM. Launch 2 goes on with it, goes on with what one process has begun
(``from_one``), with parameters split over both, goes on with a run whose newest
checkpoint is ``damaged``, and evaluates. Everything goes through
the command line's `main`; what this process opened to write is recorded.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

folder, coordinator, index, launch = Path(sys.argv[1]), *sys.argv[2:]
written = []


def record(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and arguments[1][:1] in "wax":
        written.append(str(arguments[0]))
    elif event in ("os.mkdir", "os.rename", "os.remove"):
        written.extend(str(a) for a in arguments if isinstance(a, str))


sys.addaudithook(record)

import jax  # noqa: E402
import numpy as np  # noqa: E402
import toys  # noqa: E402

from stjax import cli  # noqa: E402
from stjax.data import pipeline  # noqa: E402
from stjax.sharding.mesh import make_mesh  # noqa: E402
from stjax.training import inputs, loop  # noqa: E402


def run(command, workdir, *flags):
    """The exit status of a command."""
    if command == "train":
        flags = ("--config=" + toys.__file__, *flags)
    try:
        cli.main(["stjax", command, f"--workdir={folder / workdir}", *flags])
    except SystemExit as end:
        return end.code or 0


def save(name, value):
    (folder / f"{name}-{index}.json").write_text(json.dumps(value))


def opened():
    """Positions that this host reads: of five training batches, and to evaluate."""
    found, read = [], pipeline.ReadClip.__call__

    def reads(self, position, rng):
        found.append(int(position))
        return read(self, position, rng)

    pipeline.ReadClip.__call__ = reads
    config, seen = toys.get_config(), {}
    for split, count in (("train", 5), ("test", 2)):
        source = inputs.open_split(config, split)
        dataset = inputs.make_dataset(config, source, train=split == "train")
        batches = [dataset[step] for step in range(count)]
        seen[split] = list(found)
        np.save(
            folder / f"{split}-{index}.npy", np.stack([b["input"] for b in batches])
        )
        found.clear()
    pipeline.ReadClip.__call__ = read
    return seen


def stopped():
    """Trains; process 1 gets a SIGTERM while the seventh step is prepared."""
    put, count = loop.put_batch, []

    def terminates(mesh, batch):
        count.append(1)
        if len(count) == 7 and index == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3 if len(count) > 5 else 0)  # the notice travels
        return put(mesh, batch)

    loop.put_batch = terminates
    return run("train", "stopped")


if __name__ == "__main__":
    join = [f"--coordinator={coordinator}", "--processes=2", f"--process={index}"]
    if launch == "1":
        codes = [run("train", "whole", *join)]
        save("opened", opened())
        codes.append(stopped())
    else:
        codes = [run("train", "stopped", *join)]
        codes.append(run("train", "from_one", "--config.mesh.fsdp=2"))
        codes.append(run("train", "damaged"))
        output = f"--output={folder}/evaluated.json"
        codes.append(run("evaluate", "whole", output))
        save("recognised", toys.recognised(make_mesh()))
    save(f"written{launch}", [p for p in written if p.startswith(str(folder))])
    save(f"codes{launch}", codes)
    print(jax.process_count(), codes)
    sys.exit(codes[-1])
