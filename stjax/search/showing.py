"""What a search has found, as pictures and as JSON."""

from collections.abc import Sequence

import numpy as np
from etils import epath

from stjax import media
from stjax.errors import UserError
from stjax.search.exporting import find_strategy
from stjax.search.fitting import trajectory
from stjax.search.posterior import KINDS, Posterior
from stjax.search.ranking import read_ranking, search_folder, search_run
from stjax.search.space import Space, create_space
from stjax.search.strategy import short
from stjax.search.template import gate_name
from stjax.training.checkpoint import Step
from stjax.training.writer import to_json, write_whole
from stjax.viz.marginals import marginals, trajectories
from stjax.viz.pareto import agreement, pareto

# What is drawn of each convention, see `Posterior.marginals`.
_TITLES = {
    "sampling": "probability that a unit is drawn",
    "eq7": "as in the paper's figure 4 (equation 7), no sampling probability",
}


def show(
    workdir: str | epath.Path,
    *,
    strategy: str | Sequence[str] | None = None,
    step: Step = "last",
    output: str | epath.Path | None = None,
) -> dict:
    """Draws the marginals of the units, how they went, and what was ranked.

    Writes ``marginals.png`` and, in the convention of the paper, ``marginals_eq7.png``;
    ``gates.png``, the probabilities over training; ``pareto.png`` if there is a
    ranking, ``fidelity.png`` if strategies were trained alone; and all numbers behind
    them in ``search.json``.

    Args:
      workdir: of a search.
      strategy: whose units are marked, see `stjax.search.export`; None: the best of
        the ranking, or the mode where there is none.
      step: of the checkpoint.
      output: folder; None: ``search`` in the workdir.

    Returns:
      What search.json holds.

    Raises:
      UserError: no search there, or a strategy or ranking of another space.
    """
    run = search_run(workdir, step)
    space = create_space(run.config, run.spec)
    posterior = Posterior.of(run.model, run.variables)
    folder = epath.Path(output or search_folder(workdir))
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: _read(workdir, name, space) for name in ("ranking", "fidelity")}
    if strategy is None:
        strategy = "best" if found["ranking"] else "mode"
    marked = find_strategy(run, space, strategy)
    pictures = _bars(posterior, space, marked, strategy)
    steps, values = _course(workdir, posterior)
    if len(steps):
        units = posterior.table()[0]
        names = [slot.name for slot in space.slots]
        title = f"{space.model}, {posterior.gate} gates"
        pictures["gates"] = trajectories(names, units, steps, values, title)
    if found["ranking"]:
        pictures["pareto"] = pareto(found["ranking"])
    if found["fidelity"]:
        pictures["fidelity"] = agreement(found["fidelity"])
    for name, picture in pictures.items():
        media.write_png(folder / f"{name}.png", picture)
    report = {
        "space": space.to_dict(),
        "step": run.step,
        "posterior": posterior.to_dict(),
        "mode": short(space, posterior.mode()),
        "marked": short(space, marked),
        "trajectory": {"steps": steps, "probabilities": values.tolist()},
        **found,
        "pictures": [f"{name}.png" for name in pictures],
    }
    write_whole(folder / "search.json", to_json(report, indent=1))
    return report


def _bars(posterior: Posterior, space: Space, marked, strategy) -> dict:
    """Pictures of the marginals in both conventions; one where they are the same."""
    name = strategy if isinstance(strategy, str) else "chosen"
    slots, pictures = [slot.name for slot in space.slots], {}
    kinds = KINDS if posterior.gate == "bernoulli" else KINDS[:1]
    for kind in kinds:
        units, values = posterior.table(kind)
        title = f"{space.model}: {_TITLES[kind]}; dots: {name}"
        key = "marginals" if kind == "sampling" else f"marginals_{kind}"
        pictures[key] = marginals(slots, units, values, marked, title)
    return pictures


def _course(workdir, posterior: Posterior) -> tuple[list[int], np.ndarray]:
    """Steps [N] and probabilities [N, slots, units], from the beginning on."""
    units, first = posterior.start().table()
    try:
        steps, found = trajectory(workdir)
    except UserError:  # metrics.jsonl is not there
        return [], np.zeros((0, *first.shape))
    nothing = np.full(len(steps), np.nan)
    values = np.stack(
        [
            [found[gate_name(slot)].get(unit, nothing) for unit in units]
            for slot in posterior.slots
        ]
    )
    values = np.concatenate([first[None], values.transpose(2, 0, 1)])
    return [0, *map(int, steps)], values


def _read(workdir, name: str, space: Space) -> dict | None:
    """A ranking or a report of fidelity, if there is one."""
    folder = search_folder(workdir)
    path = folder / ("fidelity/" * (name == "fidelity")) / f"{name}.json"
    if not path.exists():
        return None
    return read_ranking(path, space)
