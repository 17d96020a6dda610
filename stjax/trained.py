"""What predictors and recognisers share: devices, batches and arithmetic."""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stjax.data.base import Spec
from stjax.errors import UserError, unknown
from stjax.sharding.mesh import batch_sharding, replicated
from stjax.training.workdir import Run

_DTYPES = ("float32", "bfloat16")

Item = TypeVar("Item")


class Trained:
    """A trained model with what it takes to call it on arrays of any number of clips.

    Attributes:
      model: the Flax module.
      variables: its parameters and statistics, on the devices.
      spec: what the clips of its training data look like.
      source: where it came from, in words.
      largest_batch: clips computed at once.
      run: what it was loaded from, if that is a training.
      mesh: the devices that share a batch; None: one device.
    """

    program = False  # exported, so that its arithmetic and devices are fixed

    def __init__(
        self,
        model: nn.Module,
        variables: dict,
        spec: Spec,
        source: str,
        largest_batch: int,
        run: Run | None,
    ):
        """See the subclasses."""
        self.model = model
        self.variables = jax.device_put(variables)
        self.spec = spec
        self.source = source
        self.largest_batch = largest_batch
        self.run = run
        self.mesh: jax.sharding.Mesh | None = None
        self._compile()

    def _compile(self) -> None:
        """Makes the compiled functions anew, for another model or other devices."""
        raise NotImplementedError

    def astype(self, dtype: str) -> Self:
        """The same model computing in another dtype; its parameters stay float32.

        Args:
          dtype: "float32" or "bfloat16", half the memory of activations, and on TPUs
            and GPUs about twice as fast. What comes out is float32 in any case.

        Raises:
          UserError: another dtype, or the model has no field ``dtype``.
        """
        name = str(jnp.dtype(dtype)) if dtype in (jnp.float32, jnp.bfloat16) else dtype
        if name not in _DTYPES:
            raise unknown("dtype", str(name), _DTYPES)
        model = _recast(self.model, jnp.dtype(name))
        if model is None:
            raise UserError(
                f"{type(self.model).__name__} has no field dtype; it computes as it is"
            )
        return self._with(model=model)

    def on(self, mesh: jax.sharding.Mesh) -> Self:
        """The same model on the devices of a mesh, which share each batch.

        Args:
          mesh: of `stjax.sharding.mesh.make_mesh()`: all devices, or those given there.
            Batches are padded to a multiple of ``data * fsdp``; along ``space`` devices
            share the rows of a frame. The parameters are copied to each.

        Raises:
          UserError: the mesh goes across hosts, or this is an exported program.
        """
        if self.program and mesh.size > 1:
            raise UserError(
                "an exported program runs on one device; load the weights instead,"
                " from a workdir or an exported folder"
            )
        if any(d.process_index != jax.process_index() for d in mesh.devices.flat):
            raise UserError(
                "the mesh goes across hosts, but predictions come back to one; use"
                " make_mesh(devices=jax.local_devices())"
            )
        variables = jax.device_put(self.variables, replicated(mesh))
        return self._with(mesh=mesh, variables=variables)

    def _with(self, **changed: object) -> Self:
        other = copy.copy(self)
        vars(other).update(changed)
        other._compile()
        return other

    def _context(self) -> contextlib.AbstractContextManager:
        """For calls of compiled functions: models ask for the mesh."""
        return jax.set_mesh(self.mesh) if self.mesh else contextlib.nullcontext()

    def _parts(
        self, clips: np.ndarray, batch: int | None = None
    ) -> Iterator[tuple[int, jax.Array]]:
        """Cuts [N, ...] into parts (how many count, [size, ...] on the devices).

        Sizes are powers of two, as far as the devices allow, so that few programs are
        compiled; what is added is zero.
        """
        batch = self.largest_batch if batch is None else batch
        if batch < 1:
            raise UserError(f"batch={batch}: expected at least 1")
        shape = self.mesh.shape if self.mesh else {"data": 1, "fsdp": 1}
        rows = shape["data"] * shape["fsdp"]
        largest = -(-batch // rows) * rows
        for start in range(0, len(clips), largest):
            part = clips[start : start + largest]
            size = min(largest, 2 ** math.ceil(math.log2(len(part))))
            size = -(-size // rows) * rows
            padding = [(0, size - len(part))] + [(0, 0)] * (clips.ndim - 1)
            padded = np.pad(part, padding)
            where = batch_sharding(self.mesh, padded.shape) if self.mesh else None
            yield len(part), jax.device_put(padded, where)

    def _about(self) -> tuple[str, str]:
        """The first and the last line of `describe`."""
        size = sum(x.size for x in jax.tree.leaves(self.variables.get("params", {})))
        first = f"{type(self.model).__name__} with {size:,} parameters"
        if self.source:
            first += f", {self.source}"
        leaves = jax.tree.leaves(self.variables)
        devices = leaves[0].devices() if leaves else set(jax.devices()[:1])
        dtype = jnp.dtype(getattr(self.model, "dtype", None) or jnp.float32)
        platform = next(iter(devices)).platform
        return first, f"runs on {len(devices)} {platform} in {dtype}"


def _recast(module: nn.Module, dtype: jnp.dtype) -> nn.Module | None:
    """With another compute dtype, modules in its fields too; None: it has none."""
    changed = {}
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if field.name == "dtype":
            changed["dtype"] = dtype
        elif field.name != "parent" and isinstance(value, nn.Module):
            inner = _recast(value, dtype)
            changed |= {} if inner is None else {field.name: inner}
    return module.clone(**changed) if changed else None


def one_late(items: Iterable[Item]) -> Iterator[Item]:
    """Each item when the next one is there.

    So the device already computes the next result while one is fetched, and no more
    than two are on the device.
    """
    waiting: list[Item] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == 2:
            yield waiting.pop(0)
    yield from waiting
