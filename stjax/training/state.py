"""What training carries from step to step, and how it comes into being."""

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn
from flax import struct

from stjax.data.base import ClipSpec
from stjax.errors import UserError
from stjax.models.registry import create_model, model_fields
from stjax.optim import Optimizer, OptimizerState
from stjax.sharding.mesh import replicated

# Collections that a forward pass fills anew; never part of the state.
_TRANSIENT = ("losses", "intermediates")


class TrainState(struct.PyTreeNode):
    """A pytree; randomness is no part of it, it follows from the step.

    Attributes:
      step: optimizer steps taken, int32 [].
      params: float32 parameters.
      collections: what a model keeps besides, such as ``batch_stats``.
      opt_state: of the optimizer.
    """

    step: jax.Array
    params: dict
    collections: dict
    opt_state: OptimizerState

    @property
    def variables(self) -> dict:
        """What ``model.apply`` takes."""
        return {"params": self.params, **self.collections}


def build_model(config: ml_collections.ConfigDict, spec: ClipSpec) -> nn.Module:
    """The model of a config, for clips of ``spec``.

    Fields that are None are left to the model's own defaults. A model that predicts
    other channels than it sees is told by ``out_channels``, and predicts all frames in
    one call.

    Raises:
      UserError: unknown model or field, or it cannot predict a part of its channels.
    """
    fields = {k: v for k, v in config.model.to_dict().items() if v is not None}
    name = fields.pop("name")
    known = model_fields(name)
    if config.remat != "none":
        # Some models offer a choice of what to keep, others on or off.
        on_off = isinstance(known.get("remat"), bool)
        fields["remat"] = True if on_off else config.remat
    if spec.target_index != tuple(range(len(spec.channels))):
        if "out_channels" not in known:
            raise UserError(
                f"model {name!r} predicts all channels of its input, but the data"
                f" wants {len(spec.target_index)} of {len(spec.channels)}; choose"
                " another model"
            )
        if len(spec.target_index) == len(spec.channels):
            raise UserError(
                f"data.target_channels {spec.target_index} are all channels in another"
                " order; leave it out, or order the data"
            )
        fields["out_channels"] = len(spec.target_index)
        if spec.t_out > spec.t_in and "t_out" in known and "t_out" not in fields:
            fields["t_out"] = spec.t_out  # it cannot read its own predictions
    return create_model(name, dtype=jnp.dtype(config.dtype), **fields)


def init_variables(model: nn.Module, spec: ClipSpec, seed: int) -> dict:
    """Fresh variables; traceable, so that ``jax.eval_shape`` gives their shapes."""
    params, dropout = jax.random.split(jax.random.key(seed))
    x = jnp.zeros((1, *spec.input_shape), jnp.float32)
    variables = model.init(
        {"params": params, "dropout": dropout}, x, frames=spec.t_out, train=False
    )
    return {k: v for k, v in variables.items() if k not in _TRANSIENT}


def create_state(variables: dict, tx: Optimizer) -> TrainState:
    """The state before the first step, from the variables of a model."""
    collections = dict(variables)
    params = collections.pop("params")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=collections,
        opt_state=tx.init(params),
    )


def state_shardings(abstract: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
    """Where each array of the state lies: all on every device."""
    return jax.tree.map(lambda _: replicated(mesh), abstract)


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
