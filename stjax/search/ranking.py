"""Ranking: many strategies, scored with the weights of one template."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

import jax
import ml_collections
from etils import epath

from stjax.data.base import LabelSpec, Source
from stjax.data.holdout import same_clips
from stjax.errors import UserError, unknown
from stjax.evaluation import usable_devices
from stjax.layers.slots import Strategy
from stjax.search.choosing import COSTS, chosen, markdown
from stjax.search.posterior import Posterior
from stjax.search.scoring import Scorer
from stjax.search.space import Space, create_space
from stjax.search.strategy import (
    known_strategies,
    letters,
    parse_strategy,
    short,
    write_strategy,
)
from stjax.search.template import Template
from stjax.sharding.mesh import make_mesh
from stjax.training import inputs
from stjax.training.checkpoint import Step
from stjax.training.workdir import Run, description, load_run
from stjax.training.writer import say, to_json, write_whole

# What two parts of one ranking have to share.
_SAME = ("format", "model", "space", "step", "split", "bn", "metric")


def rank(
    workdir: str | epath.Path,
    *,
    samples: int = 100,
    uniform: int = 0,
    include: Sequence[str] = (),
    split: str = "validation",
    step: Step = "last",
    batches: int = 20,
    seed: int = 0,
    max_params: float | None = None,
    max_macs: float | None = None,
    min_prob: float | None = None,
    cost: str = "macs",
    tolerance: float | None = None,
    allow_leak: bool = False,
    output: str | epath.Path | None = None,
) -> dict:
    """Scores strategies with inherited weights, and chooses among them.

    The candidates are samples of the posterior, its mode, every unit in all slots,
    uniform samples as a control, and those that are asked for. Each gets batch
    statistics of its own before it is scored: those of the template are an average
    over strategies. What has been scored is kept in ``candidates.jsonl``: the same
    call goes on where it was interrupted, and one for more candidates adds them.

    Args:
      workdir: of a search.
      samples: of the posterior.
      uniform: strategies that are all equally likely.
      include: more, as `stjax.search.strategy.parse_strategy` reads them.
      split: to score on; it chooses the strategy, so it must not be the one that
        results are reported on.
      step: of the checkpoint: "last", "best" or a number.
      batches: of training clips, to measure batch statistics on; 0: the template's.
      seed: of the candidates.
      max_params: the most parameters; strategies that are named come anyway.
      max_macs: the most multiply-adds of a clip.
      min_prob: the least posterior probability.
      cost: of the Pareto front and the pick: "macs" or "params".
      tolerance: the pick is the cheapest strategy that is worse than the best by at
        most this, in units of the first metric; None: one standard error of the best.
      allow_leak: rank on the split of the results all the same.
      output: folder; None: ``search`` in the workdir.

    Returns:
      What ranking.json holds: ``rows``, best first; ``best``, ``pick``, ``pareto``.

    Raises:
      UserError: no search there, no strategy within the limits, a split that
        results are reported on, or a folder with another ranking.
    """
    if cost not in COSTS:
        raise unknown("cost", cost, COSTS)
    mesh = make_mesh(devices=usable_devices(description(workdir)[0].data.batch))
    run = search_run(workdir, step, mesh)
    source = selection_split(run.config, split, allow_leak)
    space = create_space(run.config, run.spec)
    posterior = Posterior.of(run.model, run.variables)
    candidates = _candidates(
        space,
        posterior,
        include,
        {"n": samples, "seed": seed},
        {"max_params": max_params, "max_macs": max_macs, "min_prob": min_prob},
        uniform,
    )
    scorer = Scorer(
        run.config, run.model.model, run.variables, source, mesh, batches=batches
    )
    folder = epath.Path(output or search_folder(workdir))
    head = _head(run, space, source, split, scorer)
    rows = _scored(folder, head, candidates, scorer, space, posterior)
    ranking = chosen(head | {"rows": rows}, cost, tolerance)
    if jax.process_index() == 0:
        write_whole(folder / "ranking.json", to_json(ranking, indent=1))
        write_whole(folder / "ranking.md", markdown(ranking))
        for name in ("best", "pick"):
            strategy = parse_strategy(ranking[name], space)
            write_strategy(folder / f"{name}.json", space, strategy)
    return ranking


def search_folder(workdir: str | epath.Path) -> epath.Path:
    """Where what is found in a search lies by default."""
    return epath.Path(workdir) / "search"


def search_run(workdir: str | epath.Path, step: Step, mesh=None) -> Run:
    """The template of a workdir.

    Raises:
      UserError: no such run or checkpoint, or it is not one of a search.
    """
    run = load_run(workdir, step, mesh)
    if not isinstance(run.model, Template):
        raise UserError(
            f"{workdir} is no search but an ordinary training; give the workdir of"
            " stjax search fit"
        )
    return run


def selection_split(
    config: ml_collections.ConfigDict, split: str, allow_leak: bool
) -> Source:
    """The clips that choose a strategy.

    Raises:
      UserError: results are reported on them.
    """
    source = inputs.open_split(config, split)
    if allow_leak:
        return source
    if split == "test":
        raise UserError(
            "ranking on the test split would leak: results are reported on it, and the"
            " best of many strategies would look too good; rank on validation, or"
            " say --allow_leak"
        )
    if split == "validation" and same_clips(source, inputs.open_split(config, "test")):
        raise UserError(
            "ranking would leak: the validation split of this data is its test split,"
            " on which results are reported; fit with --config.search.holdout=0.1,"
            " which keeps training clips for it, or say --allow_leak"
        )
    return source


def read_ranking(path: str | epath.Path, space: Space) -> dict:
    """A ranking.json of this space.

    Raises:
      UserError: there is none, or it is of another space.
    """
    path = epath.Path(path)
    if not path.exists():
        raise UserError(f"there is no {path}; stjax search rank makes one")
    ranking = json.loads(path.read_text())
    if ranking.get("space") != space.hash:
        raise UserError(
            f"{path} is a ranking of another space ({ranking.get('model')}, hash"
            f" {ranking.get('space')}); this one is {space.model}, hash {space.hash}"
        )
    return ranking


def _candidates(
    space: Space,
    posterior: Posterior,
    include: Sequence[str],
    drawn: Mapping,
    limits: Mapping,
    uniform: int,
) -> dict[Strategy, list[str]]:
    """Each strategy and where it comes from; no one twice."""
    found: dict[Strategy, list[str]] = {}
    mode = posterior.mode()
    known = known_strategies(space, mode)
    named = {text: parse_strategy(text, space, known) for text in include}
    named |= {f"all {unit}": s for unit, s in space.uniform.items()} | {"mode": mode}
    for name, strategy in named.items():
        found.setdefault(strategy, []).append(name)
    some = posterior.sample(**drawn, cost=space.cost, **limits) if drawn["n"] else []
    for strategy in some:
        found.setdefault(strategy, []).append("sample")
    for strategy in space.random(uniform, drawn["seed"]) if uniform else ():
        found.setdefault(strategy, []).append("uniform sample")
    return found


def _head(run: Run, space: Space, source: Source, split: str, scorer: Scorer) -> dict:
    name, metric = next(
        (name, metric)
        for name, metric in scorer.metrics.items()
        if metric.higher_is_better is not None
    )
    views = "one prediction a clip"
    if isinstance(run.spec, LabelSpec):
        views = f"{run.spec.views} view{'s' * (run.spec.views > 1)} a clip"
    kept = "held out of training" if run.config.search.holdout else split
    return {
        "format": 1,
        "model": space.model,
        "space": space.hash,
        "size": space.size,
        "letters": letters(space),
        "template": str(run.workdir),
        "step": run.step,
        "split": kept if split == "validation" else split,
        "clips": len(source),
        "views": views,
        "bn": scorer.statistics,
        "metric": name,
        "higher_is_better": metric.higher_is_better,
    }


def _scored(folder, head, candidates, scorer, space, posterior) -> list[dict]:
    """A row a candidate; one line each in candidates.jsonl as soon as it is scored."""
    file = folder / "candidates.jsonl"
    known = _known(file, head)
    lines = [to_json(head), *map(to_json, known.values())]
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (strategy, origin) in enumerate(candidates.items(), 1):
        name = short(space, strategy)
        row = known.get(name)
        if row is None:
            score = scorer(strategy)
            row = {
                "strategy": name,
                "units": list(strategy),
                **dataclasses.asdict(space.cost(strategy)),
                "log_prob": posterior.log_prob(strategy),
                "metrics": score.metrics,
                "errors": score.errors,
            }
            lines.append(to_json(row))
            row = json.loads(lines[-1])  # as if it had been read
            if jax.process_index() == 0:
                write_whole(file, "\n".join(lines) + "\n")
            value = score.metrics[head["metric"]]
            say(f"{number}/{len(candidates)}  {name}  {head['metric']} {value:.4g}")
        rows.append({**row, "from": origin})
    return rows


def _known(file: epath.Path, head: Mapping) -> dict[str, dict]:
    """What has been scored already.

    Raises:
      UserError: it was another ranking.
    """
    if not file.exists():
        return {}
    first, *lines = [json.loads(line) for line in file.read_text().splitlines()]
    for key in _SAME:
        if first.get(key) != head[key]:
            raise UserError(
                f"{file} holds another ranking ({key}: {first.get(key)!r} there,"
                f" {head[key]!r} now); give another --output, or delete it"
            )
    return {line["strategy"]: line for line in lines}
