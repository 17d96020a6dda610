"""A search that was never trained: a workdir of fresh weights, in a second."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stjax.config import base_config
from stjax.layers.common import BatchNorm
from stjax.layers.slots import ALL, Slot, built_paths, gated
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


class Predictor(nn.Module):
    """Repeats the last frame, changed by two slots: 1x1 and 3x3 kernels."""

    units: str | tuple[str, ...] = ALL

    @property
    def slots(self):
        units = (("small", ("a",)), ("large", ("b",)), ("both", ("a", "b")))
        modules = (("a", ("a",)), ("b", ("b",)))
        return tuple(Slot(f"slot{i}", units, modules) for i in range(2))

    @nn.compact
    def __call__(self, x, *, frames=None, train=False, masks=None):
        y, channels = x[:, -1], x.shape[-1]
        built = built_paths(self.slots, self.units)
        for slot in self.slots:
            mask = None if masks is None else masks[slot.name]
            y += Changes(channels, built[slot.name], name=slot.name)(y, mask, train)
        return jnp.repeat(y[:, None], frames or x.shape[1], axis=1)


class Changes(nn.Module):
    channels: int
    paths: tuple[str, ...]

    @nn.compact
    def __call__(self, y, mask, train):
        found = [
            gated(nn.Conv(self.channels, (k, k), use_bias=False, name=p)(y), mask, i)
            for i, (p, k) in enumerate((("a", 1), ("b", 3)))
            if p in self.paths
        ]
        return BatchNorm(name="bn")(sum(found), train=train)


def predictor_config():
    """Nine strategies; seven clips to choose on."""
    config = base_config()
    with config.unlocked():
        config.name = "toy"
        config.model = {"name": "toy_search:Predictor"}
        config.data.update(source="moving_digits", t_in=2, t_out=2, batch=4, size=16)
        config.data.update(digit_size=7, train_clips=8, eval_clips=7)
        config.metrics = ("mse",)
        config.train.update(steps=1, eval_every=1)
        config.search.gate = "categorical"
        config.mesh.data = 1
    return config


def resnet_config():
    """Two residual blocks, whose S+ST folds into ST."""
    config = toy_config()
    with config.unlocked():
        config.model = {"name": "fusion_resnet50", "blocks": (1, 1)}
        config.model.update(width=4, group_width=32, dropout=0.0)
        config.data.update(size=32, t_in=2, train_clips=4, eval_clips=4, batch=2)
    return config


def logits_of(template):
    """Gates that prefer the first unit, then the second ..."""
    wishes = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    found = {}
    for i, slot in enumerate(template.slots):
        row = np.full(len(slot.choices), np.log(0.1))
        count = min(3, len(row))
        row[:count] = wishes[i % 3][:count]
        found[gate_name(slot)] = np.float32(row)
    return found


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
