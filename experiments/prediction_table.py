"""Trains frame predictors side by side and prints their table beside the published one.

    python experiments/prediction_table.py --workdir=DIR --scale=tiny \
        --models=tau,gsta,incepu,convlstm,predrnn,predformer

Every row is a run of `stjax.train` in DIR/<scale>/<dataset>/<model>, on the same number
of training clips. Rows that are finished are kept, one that was interrupted goes on;
DIR/<scale>/<dataset>/table.md and .json hold all rows that are there. What the scales
are: `prediction_scales.row_config`.
"""

import json
import time

import jax
import numpy as np
from absl import app, flags
from etils import epath
from prediction_published import PUBLISHED, Published
from prediction_scales import DATASETS, MODELS, row_config

import stjax
from stjax.errors import UserError
from stjax.macs import model_macs
from stjax.training.workdir import load_run

_WORKDIR = flags.DEFINE_string("workdir", None, "Where runs and table go.")
_SCALE = flags.DEFINE_enum("scale", "tiny", tuple(DATASETS), "How much is trained.")
_DATASET = flags.DEFINE_string("dataset", None, "Data set; the scale's first.")
_MODELS = flags.DEFINE_list(
    "models",
    ["tau", "gsta", "incepu", "convlstm", "predrnn", "predformer"],
    f"Rows, or 'all': {', '.join(MODELS)}.",
)
_PATH = flags.DEFINE_string("path", None, "The data set's files.")
_DIGITS = flags.DEFINE_string(
    "digits", None, "MNIST for moving_digits (.npz or idx); by default 2,000 digits."
)
_STEPS = flags.DEFINE_integer("steps", 0, "Updates; 0 for the scale's.")

_TRIVIAL = {
    "last_frame": "last frame",
    "mean_training_frame": "mean training frame",
    "black": "black",
}
_METRICS = ("mse", "mae", "ssim", "ssim_range2", "psnr")


def run_row(config, workdir: epath.Path) -> dict:
    """Trains and evaluates one model, unless that has been done.

    Returns:
      What row.json holds: the results of `stjax.train`, and ``macs`` and ``predicts``
      (clips a second in inference, batch 16).
    """
    file = workdir / "row.json"
    if file.exists():
        return json.loads(file.read_text())
    results = stjax.train(config, workdir)
    if not results:
        raise SystemExit("the machine is taken away; start again to go on")
    run = load_run(workdir)
    row = results | {
        "clips_trained": results["steps"] * config.data.batch,
        "macs": model_macs(run.model, run.spec.input_shape, run.spec.t_out),
        "predicts": _speed(run),
    }
    file.write_text(json.dumps(row, indent=2))
    return row


def _speed(run, batch: int = 16, repeats: int = 5) -> float:
    """Clips that the model predicts in a second: the median of a few calls."""
    x = np.zeros((batch, *run.spec.input_shape), np.float32)
    predict = jax.jit(lambda v, x: run.model.apply(v, x, frames=run.spec.t_out))
    jax.block_until_ready(predict(run.variables, x))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(predict(run.variables, x))
        seconds.append(time.perf_counter() - start)
    return batch / float(np.median(seconds))


def table(rows: dict[str, dict], published: dict[str, Published]) -> str:
    """The rows as Markdown, the best first, trivial predictions last."""
    head = (
        "model | params | GMAC | clips/s | training | MSE | MAE | SSIM | SSIM2 | PSNR"
        " | published: MSE | SSIM2 | params | GMAC | epochs"
    )
    lines = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    for name in sorted(rows, key=lambda name: rows[name]["metrics"]["mse"]):
        row, paper = rows[name], published.get(name)
        cells = [
            name,
            f"{row['params']:,}",
            f"{row['macs'] / 1e9:.3g}",
            f"{row['predicts']:.3g}",
            _duration(row["seconds"]),
            *_scores(row["metrics"]),
            *(_paper(paper) if paper else [""] * 5),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    trivial = next(iter(rows.values()))["baselines"]
    for key, name in _TRIVIAL.items():
        cells = [name, *[""] * 4, *_scores(trivial[key]), *[""] * 5]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _scores(metrics: dict[str, float | None]) -> list[str]:
    digits = {"ssim": ".4f", "ssim_range2": ".4f"}
    values = [(metrics[name], digits.get(name, ".4g")) for name in _METRICS]
    return ["" if value is None else format(value, form) for value, form in values]


def _paper(row: Published) -> list[str]:
    params = "" if row.params is None else f"{row.params:g}M"
    gmacs = "" if row.gmacs is None else f"{row.gmacs:g}"
    return [f"{row.mse:g}", f"{row.ssim:.4g}", params, gmacs, str(row.epochs)]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return (
        f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    )


def caption(rows: dict[str, dict], scale: str, dataset: str) -> str:
    """What the table shows, and what it does not."""
    row = next(iter(rows.values()))
    clips = sorted({r["clips_trained"] for r in rows.values()})
    return (
        f"Scale '{scale}' on {dataset}: {', '.join(f'{n:,}' for n in clips)} training"
        f" clips a row, {row['clips']:,} test clips, {row['devices']}, one seed"
        f" ({row['seed']}), {row['protocol']}. MSE and MAE are sums over a frame, SSIM"
        " has data range 1, SSIM2 data range 2 as in the published tables; clips/s in"
        " inference, training in wall time, GMAC are multiply-adds of a clip."
        + (
            ""
            if scale == "paper"
            else " Models are shrunk and trained briefly, and frames differ from the"
            " benchmark's: the order of the rows need not be that of the published"
            " results, and the numbers of the two cannot be compared."
        )
    )


def write_table(folder: epath.Path, scale: str, dataset: str) -> str:
    """Writes table.md and table.json from all finished rows of a folder."""
    files = {name: folder / name / "row.json" for name in MODELS}
    rows = {n: json.loads(f.read_text()) for n, f in files.items() if f.exists()}
    published = PUBLISHED[dataset]
    text = f"{caption(rows, scale, dataset)}\n\n{table(rows, published)}"
    (folder / "table.md").write_text(text)
    values = {
        name: {"ours": row, "published": published[name]._asdict()}
        if name in published
        else {"ours": row}
        for name, row in rows.items()
    }
    (folder / "table.json").write_text(json.dumps(values, indent=2))
    return text


def run(scale: str, dataset: str, models: list[str], folder: epath.Path) -> str:
    """Runs the rows that are missing and returns the table."""
    models = list(MODELS) if models == ["all"] else models
    fields = {"path": _PATH.value, "digits": _DIGITS.value, "steps": _STEPS.value}
    configs = {m: row_config(scale, m, dataset, **fields) for m in models}
    for model, config in configs.items():
        print(f"== {config.name}", flush=True)
        run_row(config, folder / model)
        write_table(folder, scale, dataset)
    return write_table(folder, scale, dataset)


def main(argv: list[str]) -> None:
    """Runs from the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    scale = _SCALE.value
    dataset = _DATASET.value or DATASETS[scale][0]
    folder = epath.Path(_WORKDIR.value) / scale / dataset
    try:
        print(run(scale, dataset, _MODELS.value, folder))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
