"""A search over UniFormer's blocks, local or global each, on clips of moving digits.

    python -m stjax.data.motion_files --output=clips
    stjax search fit --config=fusion/uniformer_blocks --config.data.path=clips \\
        --workdir=DIR

The paper chose a type for each stage, LLGG; here every block has its own: 32 networks.
"""

from ml_collections import ConfigDict

from stjax.recipes.motion_clips import recipe, training


@recipe("fusion/uniformer_blocks")
def get_config(config: ConfigDict) -> None:
    """No variants. Narrower than uniformer/motion_clips, as both types are trained."""
    config.model = {
        "name": "uniformer_mixed",
        "depth": (1, 1, 2, 1),
        "embed_dim": (16, 32, 48, 48),
        "head_dim": 16,
        "drop_path_rate": 0.0,
    }
    training(config, lr=2e-3, steps=1200)
    config.data.batch = 16
    config.search.update(gate="categorical", lr=3e-3)


miniature = get_config.miniature
