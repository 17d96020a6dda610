"""Does fusion search find the known answers, and is its ranking true?

    python experiments/fusion_search.py --workdir=DIR

fits the templates of the configs ``fusion/order_ladder``, ``fusion/appearance`` and
``fusion/shape_and_drift`` with several seeds, scores strategies with inherited
weights, trains strategies alone (`fusion_alone`), and keeps DIR/table.md and
DIR/table.json up to date: every criterion of `fusion_criteria` with its limit and the
figures of all seeds. Every row is a file in DIR; finished ones are kept and an
interrupted fit goes on.
"""

import itertools
import json
import time

import numpy as np
from absl import app, flags, logging
from etils import epath
from fusion_alone import Alone
from fusion_criteria import measured
from fusion_report import markdown

from stjax.config import load_config
from stjax.errors import UserError, unknown
from stjax.search import Posterior, create_space, fit
from stjax.search.scoring import Scorer
from stjax.sharding.mesh import make_mesh
from stjax.training import inputs
from stjax.training.workdir import load_run

CONFIGS = {
    "order_ladder": "fusion/order_ladder",
    "appearance": "fusion/appearance:costly",
    "appearance_free": "fusion/appearance:free",
    "shape_and_drift": "fusion/shape_and_drift:costly",
    "shuffled": "fusion/shape_and_drift:costly,shuffled",
    "uniform": "fusion/shape_and_drift:free,uniform",
    "noisy": "fusion/shape_and_drift:free,uniform,noisy",
}
TASKS = tuple(CONFIGS)
# Controls: a mask for every clip, as published, batch statistics of all of them.
CONFIGS |= {
    f"{task}_published": f"{name}{',' if ':' in name else ':'}mask_per_clip"
    for task, name in CONFIGS.items()
}
UNITS = {"s": "S", "t": "ST", "+": "S+ST"}
PATTERNS = tuple(map("".join, itertools.product("st", repeat=4)))
EVERYTHING = tuple(map("".join, itertools.product("st+", repeat=4)))
SCORED = {
    "order_ladder": (*PATTERNS, *(p.replace("t", "+") for p in PATTERNS[1:])),
    "appearance": (*PATTERNS, "++++"),
    "appearance_free": (*PATTERNS, "++++"),
    "shape_and_drift": EVERYTHING,
    "shuffled": PATTERNS,
    "uniform": EVERYTHING,
    "noisy": EVERYTHING,
}
SCORED |= {f"{task}_published": SCORED[task] for task in SCORED}
STEPS = {"order_ladder": 400, "appearance": 300, "shape_and_drift": 400, "noisy": 800}

_WORKDIR = flags.DEFINE_string("workdir", None, "Where rows and table go.")
_TASKS = flags.DEFINE_list(
    "tasks", list(TASKS), "Templates to fit; TASK_published: a control."
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Templates of each task.")
_ALONE = flags.DEFINE_list("alone", list(STEPS), "Tasks to train strategies alone on.")
_ALONE_SEEDS = flags.DEFINE_integer("alone_seeds", 1, "Trainings of each strategy.")
_COUNT = flags.DEFINE_integer("count", 24, "Strategies of shape_and_drift, alone.")
_STEPS = flags.DEFINE_integer("steps", 0, "Of all trainings; 0: those of the configs.")


def stratified(count: int) -> tuple[str, ...]:
    """Strategies with 0 to 4 temporal layers, as evenly as there are so many."""
    rng = np.random.default_rng(0)
    groups = [[s for s in EVERYTHING if 4 - s.count("s") == n] for n in range(5)]
    groups = [list(rng.permutation(group)) for group in groups]
    rounds = itertools.chain(*itertools.zip_longest(*groups))
    return tuple(itertools.islice((str(s) for s in rounds if s), count))


def alone_strategies(task: str) -> tuple[str, ...]:
    """Those that are trained separately."""
    few = {"order_ladder": PATTERNS, "appearance": ("ssss", "++++")}
    return few.get(task) or stratified(_COUNT.value)


def units(letters: str) -> tuple[str, ...]:
    """``"s+ts"`` as the names of units."""
    return tuple(UNITS[letter] for letter in letters)


def kept(file: epath.Path, make) -> dict:
    """The content of a file, made if it is not there."""
    if not file.exists():
        print(f"== {file.parent.name}/{file.name}", flush=True)
        start = time.time()
        row = make() | {"seconds": time.time() - start}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(row, indent=1))
    return json.loads(file.read_text())


def search_row(task: str, seed: int, folder: epath.Path) -> dict:
    """Fits a template; what it believes, and scores with inherited weights."""
    config = load_config(CONFIGS[task])
    config.seed = seed
    # Evaluated once, by the scores below.
    config.train.update(eval_every=config.train.steps, precise_bn=None)
    config.train.save_every = 150
    if _STEPS.value:
        steps = _STEPS.value
        config.train.update(steps=steps, eval_every=steps)
        config.search.warmup = (f"train.steps={steps}",)
    if not fit(config, folder):
        raise SystemExit("the machine is taken away; start again to go on")
    run = load_run(folder, "last")
    posterior = Posterior.of(run.model, run.variables)
    space = create_space(run.config, run.spec)
    source, mesh = inputs.open_split(run.config, "validation"), make_mesh()
    parts = (run.config, run.model.model, run.variables, source, mesh)
    names = {unit: letter for letter, unit in UNITS.items()}
    sampled = posterior.sample(50, seed, unique=False)
    sampled = ["".join(map(names.get, strategy)) for strategy in sampled]
    scored = SCORED[task]
    if task.startswith("appearance_free"):
        scored = tuple(dict.fromkeys((*scored, *sampled)))
    found = {
        "seed": seed,
        "sampled": sampled,
        "posterior": posterior.to_dict(),
        "clips": len(source),
        "macs": {s: space.cost(units(s)).macs for s in scored},
        "log_prob": {s: posterior.log_prob(units(s)) for s in scored},
    }
    for name, batches in (("accuracy", 10), ("not_recalibrated", 0)):
        scorer = Scorer(*parts, batches=batches)
        some = scored if batches else PATTERNS
        found[name] = {s: scorer(units(s)).metrics["top1"] for s in some}
    return found


def alone_rows(task: str, folder: epath.Path) -> None:
    """Trains the strategies of a task alone."""
    seeds = _SEEDS.value if task == "appearance" else _ALONE_SEEDS.value
    trainer = None
    for seed, letters in itertools.product(range(seeds), alone_strategies(task)):
        file = folder / f"{letters.replace('+', 'p')}_{seed}.json"
        if not file.exists():
            steps = _STEPS.value or STEPS[task]
            trainer = trainer or Alone(load_config(CONFIGS[task]), steps)
            who = {"strategy": letters, "seed": seed, "steps": steps}
            kept(file, lambda w=who, t=trainer: w | t(units(w["strategy"]), w["seed"]))


def read(folder: epath.Path) -> dict[str, dict]:
    """All finished rows: {"search" or "alone": {task: [row]}}."""
    found = {}
    for kind in ("search", "alone"):
        found[kind] = {
            task: [json.loads(f.read_text()) for f in files]
            for task in CONFIGS
            if (files := sorted((folder / kind / task).glob("*.json")))
        }
    return found


def write_table(folder: epath.Path) -> str:
    """Writes table.md and table.json from all finished rows."""
    rows = read(folder)
    checks = measured(rows)
    text = markdown(checks, rows)
    (folder / "table.md").write_text(text)
    lines = {
        kind: {task: [short(row) for row in of] for task, of in tasks.items()}
        for kind, tasks in rows.items()
    }
    values = {"criteria": checks, "rows": lines}
    (folder / "table.json").write_text(json.dumps(values, indent=0) + "\n")
    return text


def short(row: dict) -> dict:
    """Without what other figures of the row, or the space, tell."""
    found = {k: v for k, v in row.items() if k not in ("log_prob", "macs")}
    if "posterior" in row:
        found["posterior"] = {k: row["posterior"][k] for k in ("mode", "marginals")}
        found["posterior"]["path_on"] = row["posterior"]["path_on"]
    return found


def main(argv: list[str]) -> None:
    """Runs from the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells a lot
    folder = epath.Path(_WORKDIR.value)
    try:
        for task in (*_TASKS.value, *_ALONE.value):
            if task not in CONFIGS:
                raise unknown("task", task, CONFIGS)
        for task, seed in itertools.product(_TASKS.value, range(_SEEDS.value)):
            place = folder / "fits" / f"{task}_{seed}"
            file = folder / "search" / task / f"{seed}.json"
            kept(file, lambda t=task, s=seed, p=place: search_row(t, s, p))
            write_table(folder)
        for task in _ALONE.value:
            alone_rows(task, folder / "alone" / task)
        print(write_table(folder), flush=True)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
