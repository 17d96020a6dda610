"""The table of translator blocks, by the name that `SimVP` calls them."""

import importlib

from stjax.errors import unknown

# A block maps [B, h, w, D] to the same shape: Block(mlp_ratio, drop_path_rate, dtype).
# Blocks that depend on their place also have the fields in `PLACED`.
BLOCKS = {
    "tau": "stjax.layers.tau:TAUBlock",
}


def block_class(name: str) -> type:
    """The block class of a translator.

    Raises:
      UserError: for an unknown name.
    """
    if name not in BLOCKS:
        raise unknown("translator", name, BLOCKS)
    module, _, cls = BLOCKS[name].partition(":")
    return getattr(importlib.import_module(module), cls)
