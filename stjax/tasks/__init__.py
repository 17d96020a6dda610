"""What a model is trained for: predicting frames, or recognising what a clip shows.

Training, checkpoints and sharding are the same for all tasks. A task is a module with

* ``model_fields(name, known, given, spec)``: fields of the model that follow from the
  data (``known``: those it has; ``given``: those that the config sets);
* ``init(model, rngs, spec)``: fresh variables;
* ``Objective``: (variables, batch, step, rng) -> losses, see `Losses`; and ``plain``,
  the same without random changes to the batch;
* ``training_source(source, config)``: the source with its random transforms.
"""

import importlib
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stjax.data.base import LabelSpec, Spec


class Losses(NamedTuple):
    """What an objective finds in a batch.

    Attributes:
      each: loss of every example [N], float32.
      weight: of every example [N]; 0 is padding.
      extra: what the model adds, a scalar.
      collections: of the model, after the step.
    """

    each: jax.Array
    weight: jax.Array
    extra: jax.Array | float
    collections: dict


def task_of(spec: Spec) -> ModuleType:
    """`stjax.tasks.recognition` for labelled clips, else `stjax.tasks.prediction`."""
    kind = "recognition" if isinstance(spec, LabelSpec) else "prediction"
    return importlib.import_module(f"stjax.tasks.{kind}")


def normalise(raw: jax.Array, offset: tuple, scale: tuple) -> jax.Array:
    """``(raw - offset) / scale`` per channel, float32."""
    offset, scale = np.float32(offset), np.float32(scale)
    return (raw.astype(jnp.float32) - offset) / scale
