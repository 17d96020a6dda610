"""What training carries from step to step, and how it comes into being."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn
from flax import struct

from stjax.data.base import Spec
from stjax.models.registry import create_model, model_fields
from stjax.optim import Optimizer, OptimizerState
from stjax.search.building import create_template
from stjax.sharding.rules import parameter_shardings
from stjax.tasks import task_of
from stjax.training import ema

# Collections that a forward pass fills anew; never part of the state.
_TRANSIENT = ("losses", "intermediates")


class TrainState(struct.PyTreeNode):
    """A pytree; randomness is no part of it, it follows from the step.

    Attributes:
      step: optimizer steps taken, int32 [].
      params: float32 parameters.
      collections: what a model keeps besides, such as ``batch_stats``.
      opt_state: of the optimizer.
      ema: moving average of the parameters, or None.
    """

    step: jax.Array
    params: dict
    collections: dict
    opt_state: OptimizerState
    ema: dict | None = None

    @property
    def variables(self) -> dict:
        """What ``model.apply`` takes to evaluate: averaged, where there is one."""
        params = self.params if self.ema is None else self.ema
        return {"params": params, **self.collections}


def build_model(config: ml_collections.ConfigDict, spec: Spec) -> nn.Module:
    """The model of a config, for clips of ``spec``; a template where it is a search's.

    Fields that are None are left to the model's own defaults; what follows from the
    clips (number of classes, predicted channels) is filled in.

    Raises:
      UserError: unknown model or field, or it does not suit the clips.
    """
    fields = {k: v for k, v in config.model.to_dict().items() if v is not None}
    name = fields.pop("name")
    known = model_fields(name)
    if config.remat != "none":
        # Some models offer a choice of what to keep, others on or off.
        on_off = isinstance(known.get("remat"), bool)
        fields["remat"] = True if on_off else config.remat
    fields |= task_of(spec).model_fields(name, known, fields, spec)
    if "dtype" in known or config.dtype != "float32":
        fields["dtype"] = jnp.dtype(config.dtype)
    if config.search.gate is not None:
        return create_template(
            config, spec, functools.partial(create_model, name), fields
        )
    return create_model(name, **fields)


def init_variables(model: nn.Module, spec: Spec, seed: int) -> dict:
    """Fresh variables; traceable, so that ``jax.eval_shape`` gives their shapes."""
    params, dropout = jax.random.split(jax.random.key(seed))
    rngs = {"params": params, "dropout": dropout}
    variables = task_of(spec).init(model, rngs, spec)
    return {k: v for k, v in variables.items() if k not in _TRANSIENT}


def create_state(variables: dict, tx: Optimizer, average: bool = False) -> TrainState:
    """The state before the first step, from the variables of a model.

    With ``average`` it also carries the moving average of the parameters.
    """
    collections = dict(variables)
    params = collections.pop("params")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=collections,
        opt_state=tx.init(params),
        ema=ema.init(params) if average else None,
    )


def state_shardings(abstract: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
    """Where each array of the state lies, by `stjax.sharding.rules`."""
    return parameter_shardings(abstract, mesh)


def placed(abstract, shardings):
    """Adds shardings to a tree of ``jax.ShapeDtypeStruct``."""
    return jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
        abstract,
        shardings,
    )


def count_params(params: dict) -> int:
    """The number of parameters, batch statistics not counted."""
    return sum(int(p.size) for p in jax.tree.leaves(params))
