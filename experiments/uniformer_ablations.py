"""The ablations of UniFormer, at any scale, beside the published numbers.

    python experiments/uniformer_ablations.py --workdir=DIR --rows=full,LLLL,GGGG
    python experiments/uniformer_ablations.py --workdir=DIR --rows=all \
        --base=uniformer/kinetics400:s,16x4 --path=KINETICS --init_from=IN1K.pth

Every row is a run of `stjax.train` in DIR/<row> on the base config with one thing
changed. Rows that are finished are kept, an interrupted one goes on; DIR/table.md and
.json hold all rows that are there. The default base, moving digits on real footage,
takes minutes a row on two CPU cores and is written to DIR/clips.

Left out of the paper's table is "MobileNet blocks instead of FFN blocks" (78.6): the
authors' code does not have them.
"""

from ablation import Row, motion_clips, pick, run
from absl import app, flags
from etils import epath
from ml_collections import ConfigDict

from stjax.config import load_config
from stjax.errors import UserError

MOTION = "uniformer/motion_clips"
PUBLISHED = "UniFormer-S, Kinetics-400, 16 frames, 4 clips x 1 crop, short schedule"

ROWS = {
    "full": Row({}, 79.3, 94.3, "LLGG, kernel 5"),
    "divided": Row({"split": True}, 78.7, note="divided attention"),
    "no_dpe": Row({"dpe": False}, 77.6, note="no position embedding"),
    "LLLL": Row({"stages": "LLLL"}, 77.2, note="stage types"),
    "LLLG": Row({"stages": "LLLG"}, 78.4, note="stage types"),
    "LGGG": Row({"stages": "LGGG"}, 79.0, note="stage types"),
    "GGGG": Row({"stages": "GGGG"}, 75.3, note="stage types"),
    "kernel3": Row({"kernel_size": 3}, 79.0, note="local MHRA"),
    "kernel7": Row({"kernel_size": 7}, 79.1, note="local MHRA"),
    "kernel9": Row({"kernel_size": 9}, 78.9, note="local MHRA"),
}
# Depths of about the same cost, published for these two.
DEPTHS = {"LLLL": (3, 5, 10, 4), "GGGG": (2, 2, 7, 3)}

_WORKDIR = flags.DEFINE_string("workdir", None, "Where runs and table go.")
_BASE = flags.DEFINE_string("base", MOTION, "Config of a UniFormer to be varied.")
_ROWS = flags.DEFINE_list("rows", ["full"], f"Rows, or 'all': {', '.join(ROWS)}.")
_PATH = flags.DEFINE_string("path", None, "data.path of the base config.")
_INIT = flags.DEFINE_string("init_from", None, "train.init_from of the base config.")
_STEPS = flags.DEFINE_integer("steps", 0, "Updates; 0 for the config's.")
_EPOCHS = flags.DEFINE_integer("epochs", 0, "Or epochs; 0 for the config's.")


def row_config(
    row: str,
    base: str = MOTION,
    *,
    path: str | None = None,
    init_from: str | None = None,
    steps: int = 0,
    epochs: int = 0,
) -> ConfigDict:
    """The config of a row.

    Args:
      row: a name in `ROWS`.
      base: name of a UniFormer's config.
      path: of its data.
      init_from: its starting weights; where a row has other layers, they do not fit.
      steps: updates; 0: the config's.
      epochs: likewise; a schedule that has to end earlier keeps its shape.

    Raises:
      UserError: the base is no UniFormer.
    """
    config = load_config(base)
    if not config.model.name.startswith("uniformer"):
        raise UserError(
            f"--base={base} trains {config.model.name}; choose a config of UniFormer"
        )
    with config.unlocked():
        config.name = f"uniformer_ablations/{row}/{base}"
        config.model.update(ROWS[row].model)
        if row in DEPTHS and "depth" not in config.model:  # that of UniFormer-S
            config.model.depth = DEPTHS[row]
        config.data.path = path or config.data.path
        config.train.init_from = init_from
        if steps:
            config.train.update(steps=steps, epochs=None, eval_every=max(1, steps // 2))
        elif epochs:
            config.train.update(epochs=epochs, steps=None)
            _keep_shape(config, load_config(base).train.epochs)
    return config


def _keep_shape(config: ConfigDict, usual: int | None) -> None:
    """The warm-up takes the same share of a shorter training."""
    if usual and config.optim.warmup:
        share = config.optim.warmup / usual
        config.optim.warmup = max(1, round(share * config.train.epochs))


def main(argv: list[str]) -> None:
    """Runs from the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    folder, path = epath.Path(_WORKDIR.value), _PATH.value
    try:
        rows = pick(ROWS, _ROWS.value)
        if path is None and _BASE.value == MOTION:
            path = motion_clips(folder)
        fields = {"init_from": _INIT.value, "steps": _STEPS.value}
        fields |= {"path": path, "epochs": _EPOCHS.value}
        configs = {row: row_config(row, _BASE.value, **fields) for row in rows}
        print(run(configs, ROWS, folder, base=_BASE.value, published=PUBLISHED))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
