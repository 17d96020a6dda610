"""A small UniFormer on clips of moving digits: order, and same or different.

    python -m stjax.data.motion_files --output=clips
    stjax train --config=uniformer/motion_clips --config.data.path=clips --workdir=DIR

The data: `stjax.data.motion_clips`; other networks on it: ``nonlocal/motion_clips``.
"""

from ml_collections import ConfigDict

from stjax.recipes.motion_clips import recipe, training


@recipe("uniformer/motion_clips")
def get_config(config: ConfigDict) -> None:
    """No variants. UniFormer-S with fewer channels and blocks."""
    config.model = {
        "name": "uniformer_s",
        "depth": (1, 2, 2, 1),
        "embed_dim": (32, 48, 64, 64),
        "head_dim": 16,
        "drop_path_rate": 0.0,
    }
    training(config, lr=2e-3, steps=1200)


miniature = get_config.miniature
