"""What networks learn of order and of same-or-different, on the motion clips.

    python experiments/motion_clips.py --workdir=DIR

writes the clips (DIR/clips, unless --clips names a folder that has them), trains every
network of the configs ``nonlocal/motion_clips`` and ``uniformer/motion_clips``
in DIR/NET, and keeps DIR/table.md and DIR/table.json up to date. Finished rows are
kept, and one that was interrupted goes on.
"""

import json
import math

from absl import app, flags, logging
from etils import epath

import stjax
from stjax.config import load_config
from stjax.data.motion_clips import FACTORS, factor_accuracy
from stjax.data.motion_files import write_motion_clips
from stjax.errors import UserError

NETS = {
    "c2d": "nonlocal/motion_clips:c2d",
    "c2d_nl": "nonlocal/motion_clips:c2d_nl",
    "i3d": "nonlocal/motion_clips:i3d",
    "i3d_nl": "nonlocal/motion_clips:i3d_nl",
    "uniformer": "uniformer/motion_clips",
}

_WORKDIR = flags.DEFINE_string("workdir", None, "Where runs and table go.")
_CLIPS = flags.DEFINE_string("clips", None, "Folder of the clips; written if missing.")
_VIDEOS = flags.DEFINE_string("videos", None, "Footage for the clips; what ships.")
_NETS = flags.DEFINE_list("nets", list(NETS), "Rows to train.")
_SEED = flags.DEFINE_integer("seed", 42, "Of the training.")
_STEPS = flags.DEFINE_integer("steps", 0, "Updates; 0 for those of the configs.")


def train(net: str, clips: str, workdir: epath.Path) -> dict:
    """Trains one network, unless that has been done; the content of results.json."""
    file = workdir / "results.json"
    if file.exists():
        return json.loads(file.read_text())
    config = load_config(NETS[net])
    config.data.path = clips
    config.seed = _SEED.value
    if _STEPS.value:
        config.train.update(steps=_STEPS.value, eval_every=_STEPS.value)
    results = stjax.train(config, str(workdir))
    if not results:
        raise SystemExit("the machine is taken away; start again to go on")
    return results


def row(results: dict) -> dict:
    """What the table says of a run; ``clips`` are those of the test split."""
    factors = factor_accuracy(results["confusion"], tuple(results["classes"]))
    kept = ("params", "clips", "steps", "seconds", "seed", "devices", "confusion")
    return {
        "top1": results["metrics"]["top1"],
        **factors,
        **{key: results[key] for key in kept},
    }


def table(rows: dict[str, dict]) -> str:
    """Markdown: a row for each network."""
    any_row = next(iter(rows.values()))
    clips, seed = any_row["clips"], any_row["seed"]
    chance = 0.5 / math.sqrt(clips)
    lines = [
        f"Share of {clips:,} test clips of which a network tells the order (forward or"
        " backward), whether the digits are the same, and both. Chance is 50, 50 and"
        f" 25 %, the standard error of 50 % is {100 * chance:.1f} %. One seed ({seed}),"
        f" {any_row['devices']}.",
        "",
        "| network | order | same or different | both | parameters | steps | time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for net in (n for n in NETS if n in rows):
        values = rows[net]
        shares = [f"{100 * values[k]:.1f}" for k in (*FACTORS, "top1")]
        minutes = f"{values['seconds'] / 60:.1f} min"
        cells = [net, *shares, f"{values['params']:,}", f"{values['steps']:,}", minutes]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_table(folder: epath.Path) -> str:
    """Writes table.md and table.json from all finished rows of a folder."""
    files = {net: folder / net / "results.json" for net in NETS}
    rows = {n: row(json.loads(f.read_text())) for n, f in files.items() if f.exists()}
    text = table(rows)
    (folder / "table.md").write_text(text)
    (folder / "table.json").write_text(json.dumps(rows, indent=2) + "\n")
    return text


def main(argv: list[str]) -> None:
    """Runs from the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells a lot
    folder = epath.Path(_WORKDIR.value)
    clips = epath.Path(_CLIPS.value) if _CLIPS.value else folder / "clips"
    try:
        if unknown := set(_NETS.value) - NETS.keys():
            raise UserError(f"--nets={','.join(unknown)}: known are {', '.join(NETS)}")
        if not clips.exists():
            write_motion_clips(str(clips), videos=_VIDEOS.value)
        for net in _NETS.value:
            print(f"== {net}", flush=True)
            train(net, str(clips), folder / net)
            print(write_table(folder), flush=True)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
