"""What a training consists of, made from its config; and its first state."""

import dataclasses
from collections.abc import Callable

import jax
import ml_collections
from flax import linen as nn

from stjax.convert.labels import read_labels
from stjax.data.base import Source, Spec
from stjax.errors import UserError
from stjax.metrics import Metric
from stjax.optim import Optimizer, create_optimizer
from stjax.scoring import create_baselines, create_metrics
from stjax.sharding.mesh import batch_sharding, make_mesh
from stjax.tasks import Losses, task_of
from stjax.training import inputs
from stjax.training.checkpoint import Checkpoints
from stjax.training.initial import initial_variables
from stjax.training.state import (
    TrainState,
    build_model,
    create_state,
    init_variables,
    placed,
    state_shardings,
)
from stjax.training.step import TrainStep


@dataclasses.dataclass(frozen=True)
class Setup:
    """The parts of a training.

    Attributes:
      config: all of it.
      mesh: devices.
      sources: of the splits "train", "test" and the one that selects the model.
      model: a predictor or recogniser.
      tx: the optimizer.
      objective: of the task.
      metrics: by name; the first one with a direction selects the model.
      steps: of the whole run.
      epoch: steps of one epoch.
    """

    config: ml_collections.ConfigDict
    mesh: jax.sharding.Mesh
    sources: dict[str, Source]
    model: nn.Module
    tx: Optimizer
    objective: Callable[..., Losses]
    metrics: dict[str, Metric]
    steps: int
    epoch: int

    @property
    def spec(self) -> Spec:
        """Of the clips."""
        return self.sources["train"].spec

    @property
    def train_step(self) -> TrainStep:
        """The function that is compiled for the devices."""
        config = self.config
        train = config.train
        return TrainStep(
            *(self.objective, self.tx, config.seed, train.ema),
            bn_groups=bn_groups(config),
            accumulate=train.accumulate,
        )

    def fresh_state(self) -> TrainState:
        """The state before the first step; traceable."""
        config = self.config
        variables = init_variables(self.model, self.spec, config.seed)
        return create_state(variables, self.tx, config.train.ema is not None)


def bn_groups(config: ml_collections.ConfigDict) -> int:
    """Parts of a batch that have batch statistics of their own.

    Of a part of a batch, where ``train.accumulate`` divides it into parts.

    Raises:
      UserError: the batch does not divide into them.
    """
    batch, parts = config.data.batch, config.train.accumulate
    if parts < 1 or batch % parts:
        raise UserError(
            f"train.accumulate={parts} does not divide data.batch={batch}; change one"
        )
    clips = batch // parts
    size = config.train.bn_group or clips
    if clips % size:
        of = f" / train.accumulate={parts}" if parts > 1 else ""
        raise UserError(
            f"train.bn_group={size} does not divide data.batch={batch}{of}; change one"
        )
    return clips // size


def prepare(
    config: ml_collections.ConfigDict,
    mesh: jax.sharding.Mesh | None = None,
    sources: dict[str, Source] | None = None,
) -> Setup:
    """Makes the parts; every file is opened now, not at the end of a long run.

    Args:
      config: of the training.
      mesh: None: that of ``config.mesh``, of all devices.
      sources: by split, at least "train"; None: those of the config are opened.

    Raises:
      UserError: a field, a file or the number of devices does not fit.
    """
    mesh = make_mesh(**config.mesh) if mesh is None else mesh
    if sources is None:
        splits = dict.fromkeys(("train", "test", config.train.select_on))
        sources = {split: inputs.open_split(config, split) for split in splits}
    spec = sources["train"].spec
    bn_groups(config)  # or an error
    part = config.data.batch // config.train.accumulate
    batch_sharding(mesh, (part, *spec.input_shape))  # or an error
    steps, epoch = inputs.length(config, len(sources["train"]))
    model = build_model(config, spec)
    search = config.search.gate is not None
    if search and model.n_train is None:
        model = model.clone(n_train=len(sources["train"]))
    optim = config.optim.to_dict()
    optim["freeze"] = (*optim["freeze"], *getattr(model, "frozen", ())) or None
    tx = create_optimizer(
        **optim,
        layer_order=getattr(model, "layer_order", None),
        total_steps=steps,
        steps_per_epoch=epoch,
        gates_lr=config.search.lr if search else None,
    )
    create_baselines(config.baselines, spec)  # or an error
    return Setup(
        config=config,
        mesh=mesh,
        sources=sources,
        model=model,
        tx=tx,
        objective=task_of(spec).Objective.create(config, model, spec),
        metrics=create_metrics(config.metrics, sources["train"]),
        steps=steps,
        epoch=epoch,
    )


def first_state(
    setup: Setup, checkpoints: Checkpoints
) -> tuple[TrainState, TrainState]:
    """The state to go on from, already spread over the devices, and its shardings.

    In this order: the last checkpoint of the workdir, ``train.init_from`` (where
    ``{workdir}`` is that workdir, wherever it is now), fresh.
    """
    config, model = setup.config, setup.model
    average = config.train.ema is not None

    abstract = jax.eval_shape(setup.fresh_state)
    shardings = state_shardings(abstract, setup.mesh)
    if checkpoints.last is not None:
        return checkpoints.restore(placed(abstract, shardings)), shardings
    # Runs once, and XLA:CPU would take long to optimise all the random numbers.
    on_cpu = setup.mesh.devices.flat[0].platform == "cpu"
    once = {"xla_backend_optimization_level": 0} if on_cpu else None
    if config.train.init_from:

        def fresh() -> dict:
            return init_variables(model, setup.spec, config.seed)

        labels = config.train.init_labels
        variables = initial_variables(
            config.train.init_from.replace("{workdir}", str(checkpoints.workdir)),
            model,
            abstract.variables,
            fresh=jax.jit(fresh, compiler_options=once),
            classes=getattr(setup.spec, "classes", None),
            labels=read_labels(labels) if labels else None,
        )

        def begin(variables: dict) -> TrainState:
            return create_state(variables, setup.tx, average)

        start = jax.jit(begin, out_shardings=shardings)
        return start(jax.device_get(variables)), shardings
    start = jax.jit(setup.fresh_state, out_shardings=shardings, compiler_options=once)
    return start(), shardings
