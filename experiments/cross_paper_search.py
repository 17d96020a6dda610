"""One search over the units of all four papers; its choice against plain TAU.

    python experiments/cross_paper_search.py --workdir=DIR

fits the template of a config (DIR/template), ranks strategies by the error of the
validation split with inherited weights, and trains the best, the worst and some named
ones alone, from scratch, all with the same data, steps and seeds (DIR/alone). It keeps
DIR/table.md and DIR/table.json up to date. What is finished is kept, and what was
interrupted goes on. ``--config=fusion/uniformer_blocks --data=CLIPS --alone=best,LLGG``
does so for the blocks of UniFormer.
"""

import json
import statistics

from absl import app, flags, logging
from etils import epath

import stjax
from stjax.config import load_config
from stjax.errors import UserError
from stjax.search.exporting import find_strategy, strategy_config
from stjax.search.fitting import fit
from stjax.search.posterior import Posterior
from stjax.search.ranking import rank, search_run
from stjax.search.space import create_space
from stjax.search.strategy import parse_strategy, short
from stjax.training.workdir import Run

_WORKDIR = flags.DEFINE_string("workdir", None, "Where all goes.")
_CONFIG = flags.DEFINE_string("config", "fusion/moving_digits", "Of the search.")
_DATA = flags.DEFINE_string("data", None, "data.path, for configs that need one.")
_SAMPLES = flags.DEFINE_integer("samples", 20, "Strategies drawn from the gates.")
_UNIFORM = flags.DEFINE_integer("uniform", 15, "Strategies that are equally likely.")
_ALONE = flags.DEFINE_list(
    "alone",
    ["best", "tau", "gsta", "worst"],
    "Trained from scratch: best, worst, mode, a unit for all slots, a letter a slot.",
)
_SEEDS = flags.DEFINE_list("seeds", ["42", "43", "44"], "Of the trainings alone.")
_FIT_STEPS = flags.DEFINE_integer("fit_steps", 0, "Of the template; 0: the config's.")
_STEPS = flags.DEFINE_integer("steps", 800, "Of each training alone.")
_BATCHES = flags.DEFINE_integer("batches", 10, "Of batch statistics in the ranking.")
_CLIPS = flags.DEFINE_integer("eval_clips", 0, "data.eval_clips; 0: the config's.")


_TOLD = (_CONFIG, _SAMPLES, _UNIFORM, _ALONE, _SEEDS, _FIT_STEPS, _STEPS, _BATCHES)
_TOLD += (_CLIPS,)


def template(workdir: epath.Path) -> dict:
    """Fits the template, unless that has been done; the content of results.json."""
    file = workdir / "results.json"
    if file.exists():
        return json.loads(file.read_text())
    config = load_config(_CONFIG.value)
    if _DATA.value:
        config.data.path = _DATA.value
    if _CLIPS.value:
        config.data.eval_clips = _CLIPS.value
    if _FIT_STEPS.value:
        config.train.update(steps=_FIT_STEPS.value, eval_every=_FIT_STEPS.value)
    return _whole(fit(config, str(workdir)))


def ranked(workdir: epath.Path) -> dict:
    """What the template says of many strategies and of its gates."""
    named = [name for name in _ALONE.value if name not in ("best", "worst", "mode")]
    ranking = rank(
        workdir,
        samples=_SAMPLES.value,
        uniform=_UNIFORM.value,
        include=named,
        batches=_BATCHES.value,
    )
    del ranking["template"]  # a path
    run = search_run(workdir, "last")
    posterior = Posterior.of(run.model, run.variables)
    moved = posterior.moved_from_init()
    gates = {"marginals": posterior.marginals(), "entropy": moved["entropy"]}
    space = create_space(run.config, run.spec)
    mode = short(space, posterior.mode())
    return ranking | {"mode": mode, "gates": gates | {"moved": moved["mean"]}}


def alone(run: Run, units: tuple[str, ...], place: epath.Path) -> dict:
    """Trains a strategy from scratch; the content of results.json."""
    file = place / "results.json"
    if file.exists():
        return json.loads(file.read_text())
    config = strategy_config(run, units)
    with config.unlocked():
        config.seed = int(place.name)
        config.train.update(steps=_STEPS.value, eval_every=_STEPS.value // 2)
    return _whole(stjax.train(config, str(place)))


def _whole(results: dict) -> dict:
    if not results:
        raise SystemExit("the machine is taken away; start again to go on")
    return results


def row(place: int, scored: dict, names: list[str], runs: list[dict]) -> dict:
    """What the table says of a strategy."""
    metrics = {
        name: [run["metrics"][name] for run in runs] for name in scored["metrics"]
    }
    return {
        "names": names,
        "strategy": scored["strategy"],
        "units": scored["units"],
        "place": place,
        "inherited": scored["metrics"],
        "alone": metrics,
        "params": scored["params"],
        "macs": scored["macs"],
        "steps": runs[0]["steps"],
        "seeds": [run["seed"] for run in runs],
        "seconds": [run["seconds"] for run in runs],
        "clips": runs[0]["clips"],
        "devices": runs[0]["devices"],
    }


def _told(values: list[float]) -> str:
    text = f"{statistics.mean(values):.4g}"
    return text + (f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else "")


def table(fitted: dict, ranking: dict, rows: list[dict]) -> str:
    """Markdown: strategies trained alone, then the ranking."""
    metrics = list(ranking["rows"][0]["metrics"])
    count, first = len(ranking["rows"]), ranking["metric"]
    lines = [
        f"Space of {ranking['model']}, {ranking['size']:,} strategies. The template"
        f" took {fitted['steps']:,} steps and {fitted['seconds'] / 60:.1f} min"
        f" ({fitted['params']:,} parameters, {fitted['devices']}); its gates moved from"
        f" their start by {ranking['gates']['moved']:.2f} (mean total variation), their"
        f" mode is {ranking['mode']}. {count} strategies were ranked by {first} on"
        f" {ranking['clips']:,} clips ({ranking['split']}), batch statistics:"
        f" {ranking['bn']}.",
        "",
    ]
    if rows:
        lines += [
            f"Trained alone from scratch, {rows[0]['steps']:,} steps each, on"
            f" {rows[0]['clips']:,} test clips; mean ± standard deviation over"
            " the seeds.",
            "",
            f"| strategy | place | {first} inherited | "
            + " | ".join(f"test {name}" for name in metrics)
            + " | seeds | parameters | MMAC | time |",
            "|" + " --- |" * (len(metrics) + 7),
        ]
    for values in rows:
        cells = [
            f"{', '.join(values['names'])} `{values['strategy']}`",
            f"{values['place']} of {count}",
            f"{values['inherited'][first]:.4g}",
            *(_told(values["alone"][name]) for name in metrics),
            ", ".join(map(str, values["seeds"])),
            f"{values['params']:,}",
            f"{values['macs'] / 1e6:.4g}",
            f"{statistics.mean(values['seconds']) / 60:.1f} min",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    letters = ", ".join(f"{c} {unit}" for unit, c in ranking["letters"].items())
    lines += [
        "",
        f"The ranking ({letters}):",
        "",
        f"| place | strategy | {' | '.join(metrics)} | parameters | log p | from |",
        "|" + " --- |" * (len(metrics) + 5),
    ]
    for place, scored in enumerate(ranking["rows"], 1):
        values = " | ".join(f"{scored['metrics'][name]:.4g}" for name in metrics)
        lines.append(
            f"| {place} | `{scored['strategy']}` | {values} | {scored['params']:,} |"
            f" {scored['log_prob']:.1f} | {', '.join(scored['from'])} |"
        )
    return "\n".join(lines) + "\n"


def search(folder: epath.Path) -> None:
    """All of it."""
    place = folder / "template"
    fitted = template(place)
    ranking = ranked(place)
    run = search_run(place, "last")
    space = create_space(run.config, run.spec)
    places = {r["strategy"]: (i, r) for i, r in enumerate(ranking["rows"], 1)}
    known = {"best": ranking["best"], "worst": ranking["rows"][-1]["strategy"]}
    wanted: dict[str, list[str]] = {}
    for name in _ALONE.value:
        units = find_strategy(run, space, known.get(name, name))
        wanted.setdefault(short(space, units), []).append(name)
    _write(folder, fitted, ranking, [])
    done: dict[str, list[dict]] = {}
    for seed in _SEEDS.value:
        for strategy in wanted:
            print(f"== {strategy} {seed}", flush=True)
            units = parse_strategy(strategy, space)
            found = alone(run, units, folder / "alone" / strategy / seed)
            done.setdefault(strategy, []).append(found)
            rows = [row(*places[s], wanted[s], runs) for s, runs in done.items()]
            _write(folder, fitted, ranking, rows)
    print((folder / "table.md").read_text())


def command() -> str:
    """What was called, but for folders."""
    named = [flags.FLAGS[f.name].serialize() for f in _TOLD if f.present]
    return " ".join(["python experiments/cross_paper_search.py --workdir=DIR", *named])


def _write(folder, fitted, ranking, rows) -> None:
    kept = ("params", "steps", "seconds", "seed", "devices")
    found = {
        "command": command(),
        "config": _CONFIG.value,
        "template": {key: fitted[key] for key in kept},
        "alone": rows,
        "ranking": ranking,
    }
    text = f"`{command()}`\n\n" + table(fitted, ranking, rows)
    (folder / "table.md").write_text(text)
    (folder / "table.json").write_text(json.dumps(found, indent=1) + "\n")


def main(argv: list[str]) -> None:
    """Runs from the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells a lot
    folder = epath.Path(_WORKDIR.value)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        search(folder)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
