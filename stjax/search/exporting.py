"""A strategy as an ordinary model: a workdir of its own."""

import json
from collections.abc import Mapping, Sequence

import flax
import jax
import jax.numpy as jnp
import ml_collections
from etils import epath

from stjax.errors import UserError, unknown
from stjax.evaluation import usable_devices
from stjax.search.fitting import WARMUP, finished
from stjax.search.fuse import fuse as fold
from stjax.search.posterior import Posterior
from stjax.search.ranking import read_ranking, search_folder, search_run
from stjax.search.scoring import recalibration, without_gates
from stjax.search.space import Space, create_space, plain_config
from stjax.search.strategy import (
    known_strategies,
    parse_strategy,
    short,
    write_strategy,
)
from stjax.sharding.mesh import make_mesh, put_batch, replicated
from stjax.training.batch_stats import Recalibrator
from stjax.training.checkpoint import Checkpoints, Step
from stjax.training.loop import train
from stjax.training.setup import prepare
from stjax.training.state import (
    build_model,
    count_params,
    create_state,
    init_variables,
)
from stjax.training.workdir import Run, describe, description
from stjax.training.writer import to_json, write_whole

INITS = ("scratch", "inherit")


def export(
    workdir: str | epath.Path,
    strategy: str | Sequence[str] = "pick",
    output: str | epath.Path | None = None,
    *,
    fuse: bool = False,
    batches: int = 20,
    step: Step = "last",
) -> dict:
    """Writes a strategy with its template's weights as a workdir of its own.

    `stjax.load`, `stjax.evaluate` and the commands take it as that of any training.
    The network has the parameters of its strategy only and computes what the template
    does with hard masks.

    Args:
      workdir: of a search.
      strategy: units, or words: "best" and "pick" of its ranking, "mode", the data
        set of a published one, or see `stjax.search.strategy.parse_strategy`.
      output: folder to write; None: ``search/export`` in the workdir.
      fuse: fold paths that are the same function class, see `stjax.search.fuse`.
      batches: of training clips, to measure the batch statistics on; 0: the template's.
      step: of the checkpoint: "last", "best" or a number.

    Returns:
      What export.json holds: ``units``, ``params``, ``macs``, ``template``.

    Raises:
      UserError: no search or ranking there, a strategy of another space, or a folder
        with another run.
    """
    mesh = make_mesh(devices=usable_devices(description(workdir)[0].data.batch))
    run = search_run(workdir, step, mesh)
    space = create_space(run.config, run.spec)
    units = find_strategy(run, space, strategy)
    output = epath.Path(output or search_folder(workdir) / "export")
    if Checkpoints.exist(output):
        raise UserError(f"{output} holds a run already; give another --output")
    config = strategy_config(run, units)
    model = build_model(config, run.spec)
    variables = used_variables(model, without_gates(run.variables), run, config)
    if batches and "batch_stats" in variables:
        forward, some = recalibration(config, model, run.spec, batches)
        with jax.set_mesh(mesh):
            placed = (put_batch(mesh, batch) for batch in some())
            found = Recalibrator(forward, replicated(mesh))
            variables = found(variables, placed)
    before = units
    if fuse:
        model, variables = fold(model, variables)
        units = tuple(model.units)
        config = strategy_config(run, units)
    write_run(output, config, variables, run.step)
    write_strategy(output / "strategy.json", space, before)
    about = {
        "template": str(run.workdir),
        "step": run.step,
        "strategy": short(space, before),
        "units": list(before),
        "fused": list(units) if fuse else None,
        "params": count_params(variables["params"]),
        "macs": space.whole.cost(units).macs,
        "template_params": count_params(without_gates(run.variables)["params"]),
        "bn_batches": batches,
    }
    if jax.process_index() == 0:
        write_whole(output / "export.json", to_json(about, indent=2))
    return about | {"output": str(output)}


def retrain(
    workdir: str | epath.Path,
    strategy: str | Sequence[str],
    output: str | epath.Path,
    *,
    init: str = "scratch",
    step: Step = "last",
    changes: Mapping[str, object] | None = None,
) -> dict:
    """Trains a strategy alone, or goes on where that stopped.

    Args:
      workdir: of a search.
      strategy: as in `export`.
      output: workdir of the training.
      init: "scratch", as the template began, or "inherit": from its weights now.
      step: of the template's checkpoint.
      changes: fields of the config, such as ``{"train.steps": 500}``.

    Returns:
      As `stjax.train`.

    Raises:
      UserError: as of `export` and `stjax.train`, or an unknown ``init``.
    """
    if init not in INITS:
        raise unknown("init", init, INITS)
    run = search_run(workdir, step)
    space = create_space(run.config, run.spec)
    config = strategy_config(run, find_strategy(run, space, strategy))
    output = epath.Path(output)
    with config.unlocked():
        if init == "inherit":
            weights = output / "inherited"
            if not Checkpoints.exist(weights):
                export(workdir, strategy, weights, step=step)
            config.train.init_from = str(weights)
        for field, value in (changes or {}).items():
            section, _, name = field.rpartition(".")
            (config[section] if section else config)[name] = value
            if field == "train.epochs":
                config.train.steps = None
    config.lock()
    if finished(output, config):
        return json.loads((output / "results.json").read_text())
    return train(config, output)


def find_strategy(run: Run, space: Space, strategy: str | Sequence[str]):
    """The units that are meant, see `export`.

    Raises:
      UserError: they are none of this space, or there is no ranking.
    """
    if not isinstance(strategy, str):
        return space.check(strategy)
    if strategy in ("best", "pick"):
        ranking = read_ranking(search_folder(run.workdir) / "ranking.json", space)
        return parse_strategy(ranking[strategy], space)
    mode = Posterior.of(run.model, run.variables).mode()
    return parse_strategy(strategy, space, known_strategies(space, mode))


def strategy_config(run: Run, units: Sequence[str]) -> ml_collections.ConfigDict:
    """The config of a strategy alone: the template's, from where that began."""
    config = plain_config(run.config, units)
    with config.unlocked():
        config.name = f"{config.name}:strategy" if config.name else "strategy"
        warmup = run.workdir / WARMUP
        if run.config.search.warmup and (warmup / "config.json").exists():
            first = description(warmup)[0].train
            config.train.init_from = first.init_from
            config.train.init_labels = first.init_labels
    return config


def used_variables(model, variables: dict, run: Run, config) -> dict:
    """Those of the template's that the network of a strategy has.

    Raises:
      ValueError: they do not fit; a fault of the network's slots.
    """
    wanted = jax.eval_shape(lambda: init_variables(model, run.spec, config.seed))
    have = flax.traverse_util.flatten_dict(variables)
    found = {}
    for path, leaf in flax.traverse_util.flatten_dict(wanted).items():
        if path not in have or have[path].shape != leaf.shape:
            raise ValueError(
                f"{'/'.join(path)} {leaf.shape} of the strategy is"
                f" {getattr(have.get(path), 'shape', 'missing')} in the template"
            )
        found[path] = have[path]
    return flax.traverse_util.unflatten_dict(found)


def write_run(output: epath.Path, config, variables: dict, step: int) -> None:
    """A workdir with one checkpoint, as a training leaves it."""
    setup = prepare(config, make_mesh(devices=usable_devices(config.data.batch)))
    describe(output, config, setup.spec)
    variables = jax.device_get(variables)
    state = create_state(variables, setup.tx, config.train.ema is not None)
    state = state.replace(step=jnp.asarray(step, jnp.int32))
    with jax.set_mesh(setup.mesh), Checkpoints(output, create=True) as checkpoints:
        checkpoints.save(jax.device_put(state, replicated(setup.mesh)))
