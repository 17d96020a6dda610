"""Tables 2a to 2g of the non-local networks at any scale, beside the published numbers.

    python experiments/nonlocal_ablations.py --workdir=DIR --table=2a --scale=tiny
    python experiments/nonlocal_ablations.py --workdir=DIR --table=2f --scale=full \
        --path=KINETICS --init_from=RESNET50_IMAGENET.pth --rows=r50_c2d,r50_i3d

Every row is a run of `stjax.train` in DIR/<scale>/<table>/<row>. Rows that are finished
are kept, an interrupted one goes on; table.md and table.json there hold all rows that
are there. Scale "full" is the authors' training on Kinetics-400. "tiny" are networks
of an eighth of the channels, their blocks without pooling (res5 has maps of 1x1), on
moving digits over real footage, minutes a row on two CPU cores; the clips are written
to DIR/tiny. Table 2g, four times as many frames, starts from the finished rows of Table
2f.
"""

import shutil
from pathlib import Path

from ablation import motion_clips, pick, run
from absl import app, flags
from etils import epath
from ml_collections import ConfigDict
from nonlocal_tables import TABLES, shorter

from stjax.config import base_config, load_config
from stjax.data.motion_clips import Layout
from stjax.data.motion_files import write_motion_clips
from stjax.errors import UserError
from stjax.recipes.non_local import published

MOTION = "nonlocal/motion_clips"
SCALES = ("tiny", "full")
LONG = "2g"

_WORKDIR = flags.DEFINE_string("workdir", None, "Where runs and tables go.")
_SCALE = flags.DEFINE_enum("scale", "tiny", SCALES, "How much is trained.")
_TABLE = flags.DEFINE_enum("table", "2a", tuple(TABLES), "Of the paper.")
_ROWS = flags.DEFINE_list("rows", ["all"], "Rows of the table.")
_PATH = flags.DEFINE_string("path", None, "data.path; at tiny scale clips are written.")
_INIT = flags.DEFINE_string("init_from", None, "train.init_from: ImageNet weights.")
_STEPS = flags.DEFINE_integer("steps", 0, "Updates; 0 for the scale's.")


def row_config(
    scale: str,
    table: str,
    row: str,
    *,
    path: str | None = None,
    init_from: str | None = None,
    steps: int = 0,
) -> ConfigDict:
    """The config of a row.

    Args:
      scale: a name in `SCALES`.
      table: a name in `TABLES`.
      row: a name in ``TABLES[table]``.
      path: of the data.
      init_from: starting weights.
      steps: updates; 0: the scale's. Milestones keep their share of the run.
    """
    fields = TABLES[table][row].model
    config = _tiny(table, fields) if scale == "tiny" else _full(table, fields)
    with config.unlocked():
        config.name = f"nonlocal_ablations/{scale}/{table}/{row}"
        config.data.path = path
        config.train.init_from = init_from
        if steps:
            _shorten(config, steps)
    return config


def _full(table: str, fields: dict) -> ConfigDict:
    config = base_config()
    with config.unlocked():
        published(config, "128x1" if table == LONG else "32x2", **fields)
    return config


def _tiny(table: str, fields: dict) -> ConfigDict:
    config = load_config(MOTION)
    with config.unlocked():
        del config.model["non_local"]
        config.model.update({"pool": 1, **fields})
        if table == LONG:  # what `published` does with long clips
            config.data.t_in *= 4
            config.data.batch //= 4
            config.optim.lr /= 4
            config.model.update(frozen_bn=True, non_local_norm=False, temporal_groups=4)
    return config


def _shorten(config: ConfigDict, steps: int) -> None:
    share = steps / config.train.steps
    if "milestones" in config.optim:
        config.optim.milestones = tuple(m * share for m in config.optim.milestones)
    config.train.update(steps=steps, eval_every=max(1, steps // 2))


def tiny_clips(folder: epath.Path, table: str) -> str:
    """Where the moving digits are; they are written if they are not there."""
    if table != LONG:
        return motion_clips(folder)
    clips, part = Path(folder, "long_clips"), Path(folder, "long_clips.part")
    if not clips.exists():
        shutil.rmtree(part, ignore_errors=True)
        write_motion_clips(part, layout=Layout(frames=32)).rename(clips)
    return str(clips)


def start(folder: epath.Path, table: str, row: str, init_from: str | None) -> str:
    """What a row starts from.

    Raises:
      UserError: the row of Table 2f that it starts from is not finished.
    """
    if table != LONG or init_from:
        return init_from
    before = folder / "2f" / shorter(row)
    if not (before / "row.json").exists():
        raise UserError(
            f"{row} of Table 2g starts from {before.name} of Table 2f, which is not "
            f"there; run --table=2f --rows={before.name} first, or give --init_from"
        )
    return str(before)


def main(argv: list[str]) -> None:
    """Runs from the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    scale, table = _SCALE.value, _TABLE.value
    folder = epath.Path(_WORKDIR.value) / scale
    try:
        rows = pick(TABLES[table], _ROWS.value)
        configs = {
            row: row_config(
                scale,
                table,
                row,
                path=_PATH.value,
                init_from=start(folder, table, row, _INIT.value),
                steps=_STEPS.value,
            )
            for row in rows
        }
        if scale == "tiny" and _PATH.value is None:
            path = tiny_clips(folder, table)
            for config in configs.values():
                config.data.path = path
        about = {
            "base": MOTION if scale == "tiny" else "nonlocal/kinetics",
            "published": f"Table {table}, Kinetics-400, 10 clips of whole frames",
        }
        print(run(configs, TABLES[table], folder / table, **about))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
