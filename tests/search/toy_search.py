"""A search that was never trained: a workdir of fresh weights, in a second."""

import jax
import numpy as np

from stjax.config import base_config
from stjax.search.exporting import write_run
from stjax.search.template import gate_name
from stjax.training.inputs import open_split
from stjax.training.state import build_model, init_variables


def toy_config(**search):
    """Three slots, four classes, six clips to choose on: one ragged batch."""
    config = base_config()
    with config.unlocked():
        config.name = "toy"
        config.model = {"name": "fusion_toy", "depth": 3, "width": 4}
        config.data.update(source="shape_and_drift", size=8, t_in=4, batch=4)
        config.data.update(train_clips=16, eval_clips=6)
        config.loss.name = "cross_entropy"
        config.metrics = ("top1",)
        config.train.update(steps=1, eval_every=1)
        config.search.update(gate="categorical", **search)
        config.mesh.data = 1
    return config


def logits_of(template):
    """Gates that prefer S, then ST, then S+ST."""
    wishes = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    return {
        gate_name(slot): np.float32(row[: len(slot.choices)])
        for slot, row in zip(template.slots, wishes, strict=True)
    }


def write_search(folder, config=None, step=7):
    """The workdir of a search, as `stjax search fit` leaves it."""
    config = toy_config() if config is None else config
    spec = open_split(config, "train").spec
    template = build_model(config, spec)
    variables = jax.jit(lambda: init_variables(template, spec, 3))()
    variables = jax.device_get(variables)
    variables["params"]["gates"] = logits_of(template)
    # Batch statistics as if they had been learnt.
    rng = np.random.default_rng(0)
    variables["batch_stats"] = jax.tree.map(
        lambda v: np.float32(v + rng.uniform(0.1, 0.5, v.shape)),
        variables["batch_stats"],
    )
    write_run(folder, config, variables, step)
    return folder
