"""Training, from a config to results: read `train` from top to bottom."""

import dataclasses

import jax
import ml_collections
from etils import epath
from jax.experimental.multihost_utils import process_allgather

from stjax import config as configs
from stjax.evaluation import create_evaluator
from stjax.scoring import error_of
from stjax.search.template import Template
from stjax.sharding.mesh import put_batch, replicated
from stjax.stacked import stack, unstack
from stjax.training import inputs
from stjax.training.batch_stats import recalibrate
from stjax.training.checkpoint import Checkpoints
from stjax.training.goodput import Goodput, line
from stjax.training.meter import Meter
from stjax.training.pictures import draw
from stjax.training.profiling import Profiler
from stjax.training.setup import Setup, first_state, prepare
from stjax.training.state import TrainState, count_params, placed
from stjax.training.stopping import Termination
from stjax.training.workdir import check_storage, describe, versions
from stjax.training.writer import Writer, progress, say, to_json, write_whole

PROTOCOLS = {
    "validation": "model selected on the validation split",
    "test": "official: model selected on the test set",
}


def train(
    config: ml_collections.ConfigDict, workdir: str | epath.Path, profile: bool = False
) -> dict:
    """Trains a model, or goes on where the workdir's last checkpoint ends.

    The randomness and the data of a step follow from (seed, step) alone, so a run
    that is interrupted and taken up again ends with the same weights.

    Args:
      config: see `stjax.config.base_config`.
      workdir: local or gs://. Gets ``config.json metrics.jsonl results.json
        checkpoints/<step>/ events/ pictures/``.
      profile: also a trace of a few steps, in ``profile/``.

    Returns:
      What results.json holds: the best checkpoint on the test split, beside trivial
      predictions. Empty where the machine is taken away before the end: start again
      to go on.

    Raises:
      UserError: config, data, devices or workdir do not fit, or the loss is not
        finite (the last good checkpoint remains).
    """
    goodput = Goodput()
    configs.validate(config)
    check_storage(workdir)
    workdir = epath.Path(workdir)
    setup = prepare(config)
    describe(workdir, config, setup.spec)
    flat = dict(configs.flatten(configs.to_dict(config)))
    clips, selection = config.data.batch, setup.sources[config.train.select_on]
    eval_every = config.train.eval_every or setup.epoch
    save_every = config.train.save_every or eval_every
    dataset = inputs.make_dataset(config, setup.sources["train"], train=True)
    evaluator = create_evaluator(
        config, setup.model, selection, setup.mesh, metrics=setup.metrics
    )

    with jax.set_mesh(setup.mesh), Checkpoints(workdir, create=True) as checkpoints:
        state, shardings = first_state(setup, checkpoints)
        train_step = setup.train_step.jitted(shardings, setup.mesh)
        first = int(state.step)
        before = checkpoints.metrics(first) if first else {}

        with (
            Termination() as termination,
            Writer(workdir, first, config.train.loggers, flat) as writer,
            progress(setup.steps, first, clips) as bar,
            inputs.batches(config, dataset, start=first) as batches,
            Profiler(workdir, profile, first, setup.steps) as profiler,
        ):
            seconds = before.get("seconds", 0.0)
            meter = Meter(writer, bar, clips, setup.steps, goodput, seconds)
            goodput.begin(before)
            for step in range(first, setup.steps + 1):
                # Save before the next batch is taken: the step is the position.
                stop = termination.requested or checkpoints.reached_preemption(step)
                evaluate = step % eval_every == 0 or step == setup.steps
                if step > first and (evaluate or stop or step % save_every == 0):
                    meter.settle()  # what is not finite is never saved
                    saved = {"seconds": meter.seconds}
                    if evaluate:
                        with goodput.phase("evaluation"):
                            state = _recalibrated(setup, dataset, state)
                            found = evaluator(state.variables)["metrics"]
                        saved["error"] = error_of(setup.metrics, found)
                        _report(writer, setup, step, meter.loss, found)
                        if isinstance(setup.model, Template):
                            told = setup.model.told(state.variables["params"]["gates"])
                            writer.write_scalars(step, told)
                    with goodput.phase("checkpoint"):
                        writer.write_scalars(step, goodput.scalars())
                        writer.flush()  # first, so that metrics reach every checkpoint
                        checkpoints.save(state, saved | goodput.saved())
                if stop:
                    return {}
                if step < setup.steps:
                    with profiler.step(step + 1, meter.settle):
                        with goodput.phase("data"):
                            batch = put_batch(setup.mesh, next(batches))
                        with goodput.phase("step" if step > first else "init"):
                            state, metrics = train_step(state, batch)
                            meter.later(step + 1, metrics)

        abstract = placed(state, shardings).variables
        with goodput.phase("checkpoint"):
            best, variables = checkpoints.restore_variables(abstract, "best")
        with goodput.phase("evaluation"):
            results = _results(setup, variables)
        results |= {
            "best_step": best,
            "seconds": meter.seconds,
            "clips_per_second": meter.clips_per_second,
            "replaced": batches.replaced,
            "goodput": goodput.report(),
        }
        say(line(results["goodput"]))
    variables = process_allgather(variables, tiled=True)
    if jax.process_index() == 0:
        write_whole(workdir / "results.json", to_json(results, indent=2))
        draw(workdir, setup, variables, results)
    return results


def _recalibrated(setup: Setup, dataset, state: TrainState) -> TrainState:
    """With batch statistics over ``train.precise_bn`` batches, where that is set."""
    config, mesh, count = setup.config, setup.mesh, setup.config.train.precise_bn
    if not count:
        return state

    objective = setup.objective.plain
    if isinstance(setup.model, Template):
        objective = dataclasses.replace(objective, model=setup.model.measuring)
    elif getattr(setup.model, "scan", False):  # a layer is measured where it is called
        objective = dataclasses.replace(objective, model=setup.model.clone(scan=False))

    def forward(variables, batch, index):
        rng = jax.random.fold_in(jax.random.key(config.seed), index)
        return objective(variables, batch, index, rng).collections

    with inputs.batches(config, dataset) as batches:
        some = (put_batch(mesh, next(batches)) for _ in range(count))
        single = unstack(state.variables)
        variables = recalibrate(single, some, forward, replicated(mesh))
    del variables["params"]
    return state.replace(collections=stack(variables, state.collections))


def _report(
    writer: Writer, setup: Setup, step: int, loss: float, metrics: dict
) -> None:
    split = setup.config.train.select_on
    writer.write_scalars(step, {f"{split}/{k}": v for k, v in metrics.items()})
    found = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    say(f"step {step}/{setup.steps}  loss {loss:.4g}  {split}: {found}")


def _results(setup: Setup, variables: dict) -> dict:
    """The content of results.json: the test split, and how it came about."""
    config, sources, mesh = setup.config, setup.sources, setup.mesh
    test = create_evaluator(
        config, setup.model, sources["test"], mesh, sources["train"], setup.metrics
    )
    return {
        "config": config.name,
        "protocol": PROTOCOLS[config.train.select_on],
        **test(variables),
        "params": count_params(variables["params"]),
        "steps": setup.steps,
        "seed": config.seed,
        "devices": f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        "versions": versions(),
    }
