"""stjax beside PyTorch on the CPU: forward, training step, memory, first call.

    python experiments/benchmarks/cpu.py --figures=tau_moving_mnist \
        --out=experiments/benchmarks/cpu

Every side runs in a process of its own. All of them have the same weights and inputs,
and their outputs (in training: the first loss) have to agree before anything is timed.
Then they take turns, forwards and backwards (A B C, C B A ...), so that what else
happens on the machine hits all of them; ratios are taken within a round.

Sides: ``stjax``, ``stjax_scan`` (its equal blocks in one loop), PyTorch ``eager`` and
``channels_last``, and for the forward pass ``onnx`` (ONNX Runtime, where it and the
package onnx are installed). ``--pythons=A,B`` runs stjax's sides in several
interpreters, so that two versions of jax stand in one table; PyTorch's run in the one
that starts this. ``--peer=PATH`` takes PyTorch's network from a checkout of OpenSTL,
UniFormer or PySlowFast, in place of ``peers``.

What there is in OUT.json is kept: each figure and kind (``forward``, ``train``) is
replaced by itself, so a run may be done in parts.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags
from cpu_figures import FIGURES, FOLDER
from cpu_tables import markdown
from machines import machine

_OUT = flags.DEFINE_string("out", "", "Writes OUT.md and OUT.json.")
_FIGURES = flags.DEFINE_list("figures", list(FIGURES), "Which ones.")
_KINDS = flags.DEFINE_list("kinds", ["forward", "train"], "Of: forward, train.")
_SIDES = flags.DEFINE_list(
    "sides", ["stjax", "stjax_scan", "eager", "channels_last", "onnx"], "Which ones."
)
_PYTHONS = flags.DEFINE_list("pythons", [sys.executable], "Interpreters of stjax.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each side.")
_SECONDS = flags.DEFINE_float("seconds", 0.4, "A turn takes at least so long.")
_PEER = flags.DEFINE_string("peer", None, "A checkout of the original project.")
_MINIATURE = flags.DEFINE_boolean("miniature", False, "Tiny networks, to try it out.")

TOLERANCE = {"forward": 1e-4, "train": 0.05}
"""Of the largest output; of the first loss, in which dropout is random."""


class Worker:
    """A process of `cpu_worker.py`.

    Attributes:
      name: of the side, with the interpreter's number where there are several.
      told: its first answer.
    """

    def __init__(self, name: str, python: str, args: tuple, cache: Path):
        """Starts it."""
        self.name, self.told = name, {}
        env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
        env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        env["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        env["PYTHONPATH"] = f"{FOLDER.parents[1]}:{env.get('PYTHONPATH', '')}"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [python, str(FOLDER / "cpu_worker.py"), *map(str, args)]
        self._process = subprocess.Popen(command, env=env, **pipes)
        self._send(do="first", save=f"{name}.npy")

    def made(self) -> "Worker":
        """The same, once its first call is done."""
        self.told = self._answer()
        return self

    def ask(self, **command) -> dict:
        """Its answer to a command."""
        self._send(**command)
        return self._answer()

    def _send(self, **command) -> None:
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; what it said is above")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def start(kind: str, folder: Path) -> list[Worker]:
    """A worker for each side, its first call done.

    Of stjax a process with an empty cache compiles; a second one finds its programs,
    and is the one that is timed.
    """
    ours = [side for side in _SIDES.value if side.startswith("stjax")]
    found = []
    for side in ours:
        for i, python in enumerate(_PYTHONS.value):
            cache = folder / f"cache-{kind}-{side}{i}"
            args = f"{side}{i or ''}", python, (side, kind, folder), cache
            cold = Worker(*args).made()
            cold.close()
            warm = Worker(*args).made()
            if "first" in warm.told:
                firsts = {"cold": cold.told["first"], "warm": warm.told["first"]}
                warm.told["first"] = firsts
            found.append(warm)
    others = [side for side in _SIDES.value if side not in ours]
    python = sys.executable
    rest = [Worker(side, python, (side, kind, folder), folder) for side in others]
    return found + [worker.made() for worker in rest]


def error(kind: str, folder: Path, name: str, other: str) -> float:
    """How far two results are apart, relative to the larger one.

    Logits are compared as logarithms of probabilities: a network that gives scores has
    no others.
    """
    a, b = (np.load(folder / f"{n}.npy").astype(np.float64) for n in (name, other))
    if kind == "forward" and a.ndim == 2:
        a, b = (x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
                - x.max(-1, keepdims=True) for x in (a, b))  # fmt: skip
    elif kind == "forward":  # torch has its channels before the rows
        a, b = (x if n.startswith("stjax") else x.transpose(0, 1, 3, 4, 2)
                for x, n in ((a, name), (b, other)))  # fmt: skip
    return float(np.abs(a - b).max() / np.abs(b).max())


def take_turns(workers: list[Worker], rounds: int, seconds: float) -> dict[str, list]:
    """Seconds of a call, by the wall and of processor time, in each round."""
    calls = {}
    for worker in workers:  # not the first call: warm it up, and see how long it takes
        once = worker.ask(do="run", calls=1)["seconds"]
        calls[worker.name] = max(1, min(50, round(seconds / once)))
    turns = {worker.name: [] for worker in workers}
    for i in range(rounds):
        for worker in workers if i % 2 == 0 else reversed(workers):
            time.sleep(0.02)  # threads of the side before may still spin
            turns[worker.name].append(worker.ask(do="run", calls=calls[worker.name]))
    return turns


def compare(kind: str, folder: Path) -> dict:
    """One record: all sides of a figure, forward or training."""
    clips = json.loads((folder / "figure.json").read_text())["clips"]
    load = os.getloadavg()[0]
    started = start(kind, folder)
    rows = [{"side": worker.name, **worker.told} for worker in started]
    workers = [worker for worker in started if "skipped" not in worker.told]
    reference = next((w.name for w in workers if w.name == "eager"), workers[0].name)
    for row in rows:
        if "skipped" not in row:
            row["error"] = error(kind, folder, row["side"], reference)
            if not row["error"] < TOLERANCE[kind]:
                raise SystemExit(
                    f"{row['side']} and {reference} do not agree: {row['error']:.3g} of"
                    f" the largest value, at most {TOLERANCE[kind]} was expected"
                )
    turns = take_turns(workers, _ROUNDS.value, _SECONDS.value)
    for worker in workers:
        row = next(r for r in rows if r["side"] == worker.name)
        row |= {
            k: [t[k] / clips for t in turns[worker.name]] for k in turns[worker.name][0]
        }
        row |= worker.ask(do="memory")
        worker.close()
    return {"clips": clips, "load": [load, os.getloadavg()[0]], "rows": rows}


def measure(name: str) -> dict:
    """Records of one figure by kind."""
    folder = Path(tempfile.mkdtemp(prefix="stjax-cpu-"))
    command = [sys.executable, str(FOLDER / "cpu_figures.py"), name, str(folder)]
    command += [f"--peer={_PEER.value}"] if _PEER.value else []
    command += ["--miniature"] if _MINIATURE.value else []
    env = {
        **os.environ,
        "PYTHONPATH": f"{FOLDER.parents[1]}:{os.environ.get('PYTHONPATH', '')}",
    }
    try:
        subprocess.run(command, check=True, env=env)
        found = {}
        for kind in _KINDS.value:
            record = compare(kind, folder)
            peer = Path(_PEER.value).name if _PEER.value else "peers"
            found[kind] = {**record, "machine": machine(), "peer": peer}
        return found
    finally:
        shutil.rmtree(folder)


def main(argv: list[str]) -> None:
    """Measures, prints, and writes after each figure."""
    del argv
    file = Path(f"{_OUT.value}.json") if _OUT.value else None
    records = json.loads(file.read_text()) if file and file.exists() else {}
    for name in _FIGURES.value:
        begun = time.monotonic()
        records[name] = {**records.get(name, {}), **measure(name)}
        print(markdown({name: records[name]}))
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
        if file:
            file.write_text(json.dumps(records, indent=1) + "\n")
            file.with_suffix(".md").write_text(markdown(records))


if __name__ == "__main__":
    app.run(main)
