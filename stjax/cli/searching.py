"""``stjax search fit | rank | show | export | fidelity``."""

from stjax.cli.flagging import Config
from stjax.cli.running import checkpoint_step

_TERMINATED = 143  # as `stjax train`


def fit(*, config: Config, workdir: str, profile: bool = False) -> int:
    """Trains the template of a search, or goes on where it stopped.

    All strategies share its weights; gates learn which units are worth it. It is a
    training like any other: its workdir has what that of stjax train has.

    Args:
      config: with search.gate set, such as fusion/order_ladder, or your own file;
        --config.search.units=[block_0=S,ST] and so on override its fields.
      workdir: folder for everything that the run writes; may be gs://.
      profile: also write a trace of steps 11 to 14 for xprof to WORKDIR/profile.
    """
    from stjax.search.fitting import fit

    if not fit(config, workdir, profile):
        print(f"stopped before the end; the same command goes on with {workdir}")
        return _TERMINATED
    print(f"wrote {workdir}; stjax search rank --workdir={workdir} is next")
    return 0


def rank(
    *,
    workdir: str,
    samples: int = 100,
    uniform: int = 0,
    include: str | None = None,
    split: str = "validation",
    step: str = "last",
    batches: int = 20,
    seed: int = 0,
    max_params: float | None = None,
    max_macs: float | None = None,
    min_prob: float | None = None,
    cost: str = "macs",
    tolerance: float | None = None,
    allow_leak: bool = False,
    output: str | None = None,
) -> None:
    """Scores strategies with the template's weights and chooses among them.

    Candidates are samples of what the gates have learnt, their mode, every unit in all
    slots, and those that are named. Writes ranking.json and ranking.md, and best.json
    and pick.json as strategy files. The same command goes on where it was interrupted;
    with other samples it adds to what is there.

    Args:
      workdir: of stjax search fit.
      samples: how many strategies to draw from the gates.
      uniform: how many to draw without them, as a control.
      include: more strategies, separated by semicolons: files .json, a unit for all
        slots, units with commas between, a letter a slot, or the data set of a
        published one such as ssv1.
      split: validation (the default) or train; test would leak.
      step: of the checkpoint: last (the default), best or a number.
      batches: of training clips, to measure batch statistics of each strategy on; 0
        leaves those of the template.
      seed: of the candidates.
      max_params: the most parameters.
      max_macs: the most multiply-adds of a clip.
      min_prob: the least probability under the gates.
      cost: what the Pareto front and the pick compare with: macs or params.
      tolerance: the pick is the cheapest that is worse than the best by at most this
        (default: one standard error of the best).
      allow_leak: rank on the split of the results all the same.
      output: folder (default: WORKDIR/search).
    """
    from stjax.search.ranking import rank, search_folder

    found = rank(
        workdir,
        samples=samples,
        uniform=uniform,
        include=[text for text in (include or "").split(";") if text],
        split=split,
        step=checkpoint_step(step),
        batches=batches,
        seed=seed,
        max_params=max_params,
        max_macs=max_macs,
        min_prob=min_prob,
        cost=cost,
        tolerance=tolerance,
        allow_leak=allow_leak,
        output=output,
    )
    rows = {row["strategy"]: row for row in found["rows"]}
    metric = found["metric"]
    for name in ("best", "pick"):
        row = rows[found[name]]
        value, error = row["metrics"][metric], row["errors"][metric] or 0.0
        print(
            f"{name:<5} {row['strategy']}  {metric} {value:.4g} ± {error:.2g}"
            f"  {row['params']:,} parameters, {row['macs']:,} multiply-adds"
        )
    folder = output or search_folder(workdir)
    print(f"wrote {folder}/ranking.md: {len(rows)} strategies")


def show(
    *,
    workdir: str,
    strategy: str | None = None,
    step: str = "last",
    output: str | None = None,
) -> None:
    """Draws what a search has found; all numbers as JSON.

    Writes marginals.png, the probabilities of the units of every slot with those of a
    strategy marked; gates.png, how they went in training; pareto.png and fidelity.png
    where strategies were ranked and trained alone; and search.json.

    Args:
      workdir: of stjax search fit.
      strategy: whose units are marked: best of the ranking (the default), pick, mode,
        a file .json, or a letter a slot.
      step: of the checkpoint: last (the default), best or a number.
      output: folder (default: WORKDIR/search).
    """
    from stjax.search.ranking import search_folder
    from stjax.search.showing import show

    found = show(workdir, strategy=strategy, step=checkpoint_step(step), output=output)
    moved = found["posterior"]["moved_from_init"]
    if not moved["moved"]:
        print(
            f"the gates have hardly moved from where they began (by {moved['mean']:.2g}"
            " on average): the marginals say little"
        )
    print(f"mode  {found['mode']}  marked {found['marked']}")
    folder = output or search_folder(workdir)
    print(f"wrote {folder}/search.json, {', '.join(found['pictures'])}")


def export(
    *,
    workdir: str,
    strategy: str = "pick",
    output: str | None = None,
    fuse: bool = False,
    batches: int = 20,
    step: str = "last",
) -> None:
    """Writes a strategy with its template's weights as an ordinary model.

    stjax evaluate, predict and load take the folder as that of any training. To train
    it further: stjax train --config=OUTPUT/config.json --workdir=NEW, from scratch, or
    with --config.train.init_from=OUTPUT from these weights.

    Args:
      workdir: of stjax search fit.
      strategy: pick of the ranking (the default), best, mode, a file .json, a unit for
        all slots, units with commas between, or a letter a slot.
      output: folder for the model (default: WORKDIR/search/export).
      fuse: fold paths into one where they are the same function class.
      batches: of training clips, to measure its batch statistics on; 0 leaves those of
        the template.
      step: of the checkpoint: last (the default), best or a number.
    """
    from stjax.search.exporting import export

    found = export(
        workdir,
        strategy,
        output,
        fuse=fuse,
        batches=batches,
        step=checkpoint_step(step),
    )
    print(
        f"wrote {found['output']}: {found['strategy']}, {found['params']:,} of the"
        f" template's {found['template_params']:,} parameters"
    )


def fidelity(
    *,
    workdir: str,
    count: int = 12,
    strategies: str | None = None,
    init: str = "scratch",
    steps: int | None = None,
    epochs: int | None = None,
    split: str = "validation",
    step: str = "last",
    output: str | None = None,
) -> int:
    """Trains ranked strategies separately and tells whether the ranking is true.

    Spearman and Kendall between both orders with bootstrap intervals, and what trusting
    the template costs (regret). Writes fidelity.json and fidelity.md; every strategy
    has a workdir of its own, and the same command goes on where it was interrupted.

    Args:
      workdir: of stjax search fit, ranked.
      count: how many strategies to train, evenly from the ranking.
      strategies: these ones instead, separated by semicolons.
      init: scratch (the default), or inherit: begin with the template's weights.
      steps: of each training (default: as of the template).
      epochs: of each training, instead of steps.
      split: on which they are measured: validation (the default) or test.
      step: of the template's checkpoint: last (the default), best or a number.
      output: folder (default: WORKDIR/search/fidelity).
    """
    from stjax.search.standalone import fidelity, markdown

    changes = {"train.steps": steps, "train.epochs": epochs}
    found = fidelity(
        workdir,
        count=count,
        strategies=[text for text in (strategies or "").split(";") if text],
        init=init,
        changes={field: value for field, value in changes.items() if value},
        split=split,
        step=checkpoint_step(step),
        output=output,
    )
    if not found:
        print("stopped before the end; the same command goes on")
        return _TERMINATED
    print(markdown(found), end="")
    return 0
