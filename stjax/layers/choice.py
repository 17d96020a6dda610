"""Whole blocks side by side, of which a strategy keeps one."""

import flax.linen as nn
import jax

from stjax.layers.slots import gated

Fields = tuple[tuple[str, object], ...]


class ChoiceBlock(nn.Module):
    """Residual blocks of several kinds, each a path: what they add to x is added.

    With one path it is that block, with hard masks the block that is left.

    Attributes:
      kinds: (path, its place in a mask, class, fields) of each block that is built.
        A block maps ``(x, train)`` to the shape of x.
      drop_path_rate: of all of them.
    """

    kinds: tuple[tuple[str, int, type[nn.Module], Fields], ...]
    drop_path_rate: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, mask: jax.Array | None = None
    ) -> jax.Array:
        """x -> the same shape; `mask` [P] or [B, P], see `stjax.layers.slots`."""
        found = {}
        for path, index, cls, fields in self.kinds:
            kw = dict(fields, drop_path_rate=self.drop_path_rate)
            found[index] = cls(**kw, name=path)(x, train)
        if mask is None and len(found) == 1:
            return found.popitem()[1]
        return x + sum(gated(y - x, mask, index) for index, y in found.items())
