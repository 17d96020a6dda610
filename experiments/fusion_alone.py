"""Strategies trained alone, one after another, with one compiled step.

A network whose masks are 0 or 1 computes what the network of that strategy computes,
and so does its gradient: paths that are off get none. So the template without gates,
from fresh weights and with the masks of a strategy from the first step to the last, is
that strategy trained alone, without compiling every strategy anew.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import ml_collections
import numpy as np

from stjax.data import pipeline
from stjax.evaluation import create_evaluator
from stjax.layers.slots import hard_masks
from stjax.search.scoring import Masked, Remembered
from stjax.search.space import plain_config
from stjax.sharding.mesh import put_batch
from stjax.training import inputs
from stjax.training.setup import prepare
from stjax.training.state import create_state, init_variables
from stjax.training.step import TrainStep


class Alone:
    """``alone(strategy, seed) -> {split: accuracy}``."""

    def __init__(self, config: ml_collections.ConfigDict, steps: int):
        """Opens the data, which stays in memory.

        Args:
          config: of a search.
          steps: of each training.
        """
        config = plain_config(config)
        with config.unlocked():
            config.train.update(steps=steps, precise_bn=None)
        self.config, self.setup = config, prepare(config)
        setup = self.setup
        self.model = Masked(setup.model)
        objective = dataclasses.replace(setup.objective, model=self.model)
        self._step = jax.jit(TrainStep(objective, setup.tx, config.seed))
        self._fresh = jax.jit(
            functools.partial(init_variables, setup.model, setup.spec)
        )
        self._clips = Remembered(setup.sources["train"])
        self._measure = {
            split: create_evaluator(
                config,
                self.model,
                Remembered(inputs.open_split(config, split)),
                setup.mesh,
                metrics=setup.metrics,
            )
            for split in ("validation", "test")
        }

    def __call__(self, strategy: Sequence[str], seed: int) -> dict[str, float]:
        """Trains one strategy from weights and with an order of clips of this seed."""
        state = self.train(strategy, seed)
        return {
            split: measure(state.variables)["metrics"]["top1"]
            for split, measure in self._measure.items()
        }

    def train(self, strategy: Sequence[str], seed: int):
        """The state after the last step."""
        masks = hard_masks(self.setup.model.slots, strategy)
        variables = {**self._fresh(np.uint32(seed)), "masks": masks}
        state = create_state(variables, self.setup.tx)
        batch = self.config.data.batch
        dataset = pipeline.make_dataset(self._clips, batch=batch, seed=seed, train=True)
        with jax.set_mesh(self.setup.mesh), pipeline.batches(dataset) as batches:
            for _ in range(self.setup.steps):
                clips = next(batches)
                clips.pop("replaced")
                state, _ = self._step(state, put_batch(self.setup.mesh, clips))
        return state
