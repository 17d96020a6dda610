"""Training batches that are made where they are used: ``data.backend="device"``."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from stjax.data.base import Source
from stjax.data.device import moving_digits
from stjax.errors import UserError
from stjax.sharding.mesh import batch_sharding, replicated

_STREAM = 2**31 - 1  # folded into the seed's key: not the randomness of the steps


class DeviceClips:
    """Training batches by number, of a source that tells how its clips are drawn.

    Batch number ``step`` is a function of (seed, step), whatever the mesh and the
    number of hosts; it is sharded like every batch. Nothing is read, nothing is sent.
    """

    def __init__(self, source: Source, batch: int, seed: int, mask: bool = False):
        """Prepares the generator.

        Args:
          source: of training clips; its ``on_device`` tells what is drawn and how.
          batch: clips over all devices.
          seed: of the run.
          mask: with ``mask``, as ``data.nan="mask"`` gives it; all is valid.

        Raises:
          UserError: clips of this source are not made on a device.
        """
        fields = getattr(source, "on_device", None)
        if fields is None:
            raise UserError(
                "data.backend='device' makes clips of moving_digits and moving_mnist,"
                f" without data.augment; not of {type(source).__name__}: take 'grain'"
            )
        self._digits, self._fields = fields["digits"], dict(fields)
        del self._fields["digits"]
        self._spec, self._batch, self._seed = source.spec, batch, seed
        self._mask = mask

    def batches(self, start: int = 0) -> Iterator[dict[str, jax.Array]]:
        """Batches from number ``start`` on, without end, on the mesh that is set."""
        mesh = jax.sharding.get_mesh()
        options, digits = {}, self._digits
        if not mesh.empty:
            shapes = jax.eval_shape(self._make, digits, start)
            shard = {k: batch_sharding(mesh, v.shape) for k, v in shapes.items()}
            options = {"out_shardings": shard}
            digits = jax.device_put(digits, replicated(mesh))
        make = jax.jit(self._make, **options)
        while True:
            yield make(digits, np.uint32(start))
            start += 1

    def _make(self, digits: jax.Array, step: jax.Array) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.key(self._seed), _STREAM)
        key = jax.random.fold_in(key, step)
        spec = self._spec
        video = moving_digits(
            key,
            digits,
            self._batch,
            frames=spec.t_in + spec.t_out,
            height=spec.height,
            width=spec.width,
            **self._fields,
        )
        batch = {"input": video[:, : spec.t_in], "target": video[:, spec.t_in :]}
        batch["weight"] = jnp.ones(self._batch, jnp.float32)
        if self._mask:
            batch["mask"] = jnp.ones_like(batch["target"])
        return batch
