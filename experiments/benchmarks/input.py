"""How fast clips come: moving digits from Grain and from the device, frames of videos.

    python experiments/benchmarks/input.py --out=experiments/benchmarks/input

Moving digits, 20 frames of 64x64, two digits: stjax's source alone, the same through
Grain (batches of 16, in the background as in training), a generator that goes frame
by frame in numpy as OpenSTL's does, and `stjax.data.device.moving_digits`, jitted, on
this machine's device. Videos: all frames of one as rgb arrays, by PyAV alone, which is
the limit, and by the two readers of stjax. What is compared takes turns.
"""

import gzip
import json
import math
import os
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import jax
import numpy as np
from absl import app, flags
from av.video.reformatter import VideoReformatter
from cpu_tables import spread
from machines import machine

from stjax.data import device, pipeline
from stjax.data.digits import load_digits
from stjax.data.footage import open_footage
from stjax.data.lists.item import Item
from stjax.data.motion_files import SAMPLE_VIDEOS
from stjax.data.reading import Skips
from stjax.data.sources import open_source
from stjax.data.video import VideoReader

_OUT = flags.DEFINE_string("out", "", "Writes OUT.md and OUT.json.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each.")
_CLIPS = flags.DEFINE_integer("clips", 1600, "Of a turn.")
_VIDEO = flags.DEFINE_string("video", str(SAMPLE_VIDEOS / "bikes.mp4"), "A file.")

BATCH = 16


def frame_by_frame(rng: np.random.Generator, digits: np.ndarray) -> np.ndarray:
    """A clip [20, 64, 64] in numpy, one digit and one frame after the other."""
    video, canvas = np.zeros((20, 64, 64), np.uint8), 64 - 28
    for _ in range(2):
        y, x, theta = rng.random(), rng.random(), 2 * math.pi * rng.random()
        vy, vx = math.sin(theta), math.cos(theta)
        ys, xs = np.zeros(20), np.zeros(20)
        for t in range(20):
            y, x = y + 0.1 * vy, x + 0.1 * vx
            if x <= 0 or x >= 1:
                x, vx = min(max(x, 0.0), 1.0), -vx
            if y <= 0 or y >= 1:
                y, vy = min(max(y, 0.0), 1.0), -vy
            ys[t], xs[t] = y, x
        tops = (canvas * ys).astype(np.int32)
        lefts = (canvas * xs).astype(np.int32)
        image = digits[rng.integers(len(digits))]
        for t in range(20):
            top, left = tops[t], lefts[t]
            part = video[t, top : top + 28, left : left + 28]
            video[t, top : top + 28, left : left + 28] = np.maximum(part, image)
    return video


def moving_mnist(folder: Path):
    """The source of the benchmark's training clips, on the digits that ship."""
    digits = np.tile(load_digits("train"), (5, 1, 1))
    header = struct.pack(">IIII", 0x803, *digits.shape)
    data = gzip.compress(header + digits.tobytes(), 1)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(data)
    return open_source("moving_mnist", path=str(folder), holdout=1000)


def digit_makers(folder: Path) -> dict[str, Callable[[int], None]]:
    """Name -> makes so many clips."""
    sources = {
        "moving_digits": open_source("moving_digits", split="train"),
        "moving_mnist": moving_mnist(folder),
    }
    rng, digits = np.random.default_rng(0), load_digits("train")

    def alone(count):
        for i in range(count):
            sources["moving_digits"].clip(i, rng)

    def plain(count):
        for _ in range(count):
            frame_by_frame(rng, digits)

    def grain(name):
        dataset = pipeline.make_dataset(sources[name], batch=BATCH, train=True)

        def run(count):
            # Anew each time: one that waits between turns would have read ahead.
            with pipeline.batches(dataset) as batches:
                for _ in range(count // BATCH):
                    next(batches)

        return run

    made = jax.jit(lambda key, d: device.moving_digits(key, d, BATCH))
    on_device = jax.device_put(digits)

    def jitted(count):
        for i in range(count // BATCH):
            clips = made(jax.random.fold_in(jax.random.key(0), i), on_device)
        jax.block_until_ready(clips)

    kind = jax.devices()[0].device_kind
    return {
        "Grain, `moving_digits`": grain("moving_digits"),
        "Grain, `moving_mnist`": grain("moving_mnist"),
        "the source alone": alone,
        "numpy, frame by frame": plain,
        f"`stjax.data.device` on {kind}": jitted,
    }


def frame_readers(path: Path) -> dict[str, Callable[[int], None]]:
    """Name -> reads all frames so many times."""

    def alone(times):
        for _ in range(times):
            convert = VideoReformatter()
            with av.open(str(path)) as container:
                for frame in container.decode(video=0):
                    convert.reformat(frame, format="rgb24").to_ndarray()

    def naive(times):
        for _ in range(times):
            with av.open(str(path)) as container:
                for frame in container.decode(video=0):
                    frame.to_ndarray(format="rgb24")

    def footage(times):
        found = open_footage(path.parent, Item(path.name, labels=()))
        for _ in range(times):
            for _frame in found.frames(range(found.length)):
                pass

    reader = VideoReader([path], Skips(False))

    def windows(times):
        for _ in range(times):
            reader._reset()  # nothing is remembered from the time before
            reader.read(0, range(reader.lengths[0]), lambda frame: frame)

    return {
        "PyAV alone": alone,
        "PyAV alone, a converter for each frame": naive,
        "`labelled_videos` (recognition)": footage,
        "`files` (prediction)": windows,
    }


def turns(made: dict[str, Callable], count: int, each: int, rounds: int) -> list[dict]:
    """Items a second, by the wall and by the processor, in each round.

    Args:
      made: what takes turns; called with `count`.
      count: of a turn.
      each: items of one.
      rounds: turns of each.
    """
    rows = {name: {"name": name, "second": [], "cpu_second": []} for name in made}
    for call in made.values():
        call(max(count // 10, BATCH) if each == 1 else 1)
    for i in range(rounds):
        names = list(made) if i % 2 == 0 else list(made)[::-1]
        for name in names:
            start = time.perf_counter(), time.process_time()
            made[name](count)
            end = time.perf_counter(), time.process_time()
            wall, cpu = (b - a for a, b in zip(start, end, strict=True))
            rows[name]["second"].append(count * each / wall)
            rows[name]["cpu_second"].append(count * each / cpu)
    return list(rows.values())


def markdown(found: dict) -> str:
    """Both tables, and where they come from."""
    m = found["machine"]
    lines = [
        f"{m['cpus']} CPUs ({m['processor']}), {m['system']}, {m['date']}, load average"
        f" {found['load']:.1f}; medians, smallest and largest of the rounds.",
        "",
    ]
    base = found["videos"][0]
    for title, unit, rows in (
        ("moving digits, 20 frames of 64x64", "clips", found["digits"]),
        (f"`{found['video']}`, {found['size']}", "frames", found["videos"]),
    ):
        lines += [
            f"| {title} | {unit} a second | {unit} a second of one core | of PyAV |",
            "| --- | --- | --- | --- |",
        ]
        for row in rows:
            wall, cpu = (spread(row[k], ",.0f") for k in ("second", "cpu_second"))
            shares = zip(row["second"], base["second"], strict=True)
            share = statistics.median(a / b for a, b in shares)
            share = f"{share:.2f}" if unit == "frames" else ""
            lines.append(f"| {row['name']} | {wall} | {cpu} | {share} |")
        lines.append("")
    return "\n".join(lines)


def measure(rounds: int, clips: int, video: Path) -> dict:
    """All of it."""
    load = os.getloadavg()[0]
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        length = sum(1 for _ in container.decode(stream))
        size = f"{length} frames of {stream.height}x{stream.width}, {stream.name}"
    with tempfile.TemporaryDirectory() as folder:
        digits = turns(digit_makers(Path(folder)), clips, 1, rounds)
    videos = turns(frame_readers(video), 1, length, rounds)
    about = {"machine": machine(), "load": load, "video": video.name, "size": size}
    return {**about, "digits": digits, "videos": videos}


def main(argv: list[str]) -> None:
    """Prints the tables, and writes them."""
    del argv
    found = measure(_ROUNDS.value, _CLIPS.value, Path(_VIDEO.value))
    print(markdown(found))
    if _OUT.value:
        Path(f"{_OUT.value}.json").write_text(json.dumps(found, indent=1) + "\n")
        Path(f"{_OUT.value}.md").write_text(markdown(found))


if __name__ == "__main__":
    app.run(main)
