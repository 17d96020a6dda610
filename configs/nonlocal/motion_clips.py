"""C2D and I3D, with and without non-local blocks, on clips of moving digits.

    python -m stjax.data.motion_files --output=clips
    stjax train --config=nonlocal/motion_clips --config.data.path=clips --workdir=DIR

What each network can know, and why, is told in `stjax.data.motion_clips`; what they
learn, in ``experiments/motion_clips.py``'s table.
"""

from ml_collections import ConfigDict

from stjax.recipes.motion_clips import recipe, training


@recipe("nonlocal/motion_clips", net=("i3d_nl", "c2d_nl", "i3d", "c2d"))
def get_config(config: ConfigDict, net: str) -> None:
    """Variants: the network, ``nl`` with five non-local blocks.

    ResNet-50 with an eighth of the channels and PySlowFast's stem, which pools frames
    in pairs: a clip and its reverse have the same pairs.
    """
    kind, _, blocks = net.partition("_")
    config.model = {
        "name": f"{kind}_r50",
        "non_local": 5 if blocks else 0,
        "width": 8,
        "dropout": 0.0,
        "window": 1,
    }
    training(config, lr=2e-3, steps=600)


miniature = get_config.miniature
