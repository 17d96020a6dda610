"""The programs of a config, lowered for devices that need not be there.

The training step is that of `stjax.training`, with the same sharding of state and
batch; only the arrays are shapes, and no data file is opened where the data set is
known.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn
from jax.experimental.compilation_cache import compilation_cache

from stjax.aot.specs import Described, clips_of_an_epoch, spec_of
from stjax.data.base import LabelSpec, Spec
from stjax.sharding.mesh import batch_sharding, make_mesh, replicated
from stjax.tasks import normalise
from stjax.training.setup import prepare
from stjax.training.state import (
    build_model,
    init_variables,
    placed,
    state_shardings,
)

_UNKNOWN_CLIPS = 10_000  # of an epoch; only the schedule depends on it

KINDS = ("train", "predict")


@dataclasses.dataclass(frozen=True)
class Program:
    """A function and the abstract arrays it is called with, on a mesh.

    Attributes:
      function: to be jitted with ``options``.
      arguments: trees of `jax.ShapeDtypeStruct`, with shardings.
      options: of `jax.jit`.
      mesh: of devices.
      clips: of a batch, over all devices.
      parameters: how many there are.
      trees: parts of the arguments by name, to be measured.
    """

    function: Callable
    arguments: tuple
    options: dict
    mesh: jax.sharding.Mesh
    clips: int
    parameters: int
    trees: dict[str, object]

    def lower(self) -> jax.stages.Lowered:
        """For the devices of the mesh."""
        with jax.set_mesh(self.mesh):
            return jax.jit(self.function, **self.options).lower(*self.arguments)

    def compile(self) -> jax.stages.Compiled:
        """For the devices of the mesh."""
        return compiled(self.lower())

    @property
    def resident(self) -> dict[str, int]:
        """Bytes of each of ``trees`` on one device."""
        return {name: _bytes_on_one(tree) for name, tree in self.trees.items()}


def program(
    config: ml_collections.ConfigDict, kind: str, devices: Sequence[jax.Device]
) -> Program:
    """A program of a config.

    Args:
      config: of a training.
      kind: ``"train"``, a training step; ``"predict"``, predictions or, of one view
        of each clip, class scores from a batch of raw clips.
      devices: all of them are used, as ``config.mesh`` says.

    Raises:
      UserError: the config does not fit the devices, or its data are not known.
    """
    mesh = make_mesh(**config.mesh, devices=devices)
    return (_train if kind == "train" else _predict)(config, mesh)


def _train(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Program:
    batch = config.data.batch
    clips = max(clips_of_an_epoch(config) or _UNKNOWN_CLIPS, batch)
    source = Described(spec_of(config), clips)
    setup = prepare(config, mesh, {"train": source})
    state = jax.eval_shape(lambda: setup.fresh_state())
    shardings = state_shardings(state, mesh)
    state = placed(state, shardings)
    arrays = _batch(source.spec, batch, mesh, config.data.nan == "mask")
    return Program(
        function=setup.train_step.__call__,
        arguments=(state, arrays),
        options={"donate_argnums": 0, "out_shardings": (shardings, replicated(mesh))},
        mesh=mesh,
        clips=batch,
        parameters=_size(state.params),
        trees={
            "parameters": (state.params, state.collections, state.ema),
            "optimizer": state.opt_state,
            "batch": arrays,
        },
    )


def _predict(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Program:
    trained, spec = spec_of(config), spec_of(config, train=False)
    model = build_model(config, trained)
    variables = jax.eval_shape(lambda: init_variables(model, trained, config.seed))
    variables = placed(variables, jax.tree.map(lambda _: replicated(mesh), variables))
    shape = (config.data.batch, *spec.input_shape)
    sharding = batch_sharding(mesh, shape)
    x = jax.ShapeDtypeStruct(shape, spec.dtype, sharding=sharding)
    return Program(
        function=functools.partial(_forward, model, spec),
        arguments=(variables, x),
        options={},
        mesh=mesh,
        clips=config.data.batch,
        parameters=_size(variables["params"]),
        trees={"parameters": variables, "batch": x},
    )


def _forward(model: nn.Module, spec: Spec, variables: dict, x: jax.Array) -> jax.Array:
    """Raw clips to predictions or logits, float32."""
    x = normalise(x, spec.offset, spec.scale)
    frames = {} if isinstance(spec, LabelSpec) else {"frames": spec.t_out}
    return model.apply(variables, x, train=False, **frames).astype(jnp.float32)


def _batch(spec: Spec, size: int, mesh: jax.sharding.Mesh, mask: bool) -> dict:
    """The arrays of a training batch, without their contents."""
    arrays = {k: ((size, *s), d) for k, (s, d) in spec.arrays.items()}
    arrays["weight"] = ((size,), "float32")
    if mask:
        arrays["mask"] = ((size, *spec.target_shape), "uint8")
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh, shape))
        for name, (shape, dtype) in arrays.items()
    }


def compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """``lowered.compile()``, for devices that are not there.

    JAX's persistent cache could not read such a program again, so it is left out.
    """
    used = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # or it keeps to what it did before
    try:
        return lowered.compile()
    finally:
        jax.config.update("jax_enable_compilation_cache", used)
        compilation_cache.reset_cache()


def _size(tree: object) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes_on_one(tree: object) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
