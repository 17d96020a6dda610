"""Long clips: I3D and C2D on Kinetics-400 as trained by the non-local authors.

Top-1 / top-5 on validation, 10 clips x 3 crops of 256, frames x step, ResNet-50: 128x1
I3D 75.2/92.0, with 5 blocks 76.5/92.7; 32x4 I3D 75.5/92.0, with 5 blocks 76.5/92.6. The
paper's Table 2g (128x1, whole frames): C2D 73.8/91.2, I3D 74.9/91.7, with 5 blocks
76.5/92.6; ResNet-101 75.3/91.8, 76.4/92.7, 77.7/93.3.

data.path: a folder with train.csv and val.csv (lines ``path label``). train.init_from:
the workdir of nonlocal/kinetics without blocks and of the same network, with clips of
32x2 for 128x1 and of 8x8 for 32x4. Affinities of 128 frames take much memory: try
``remat="full"``.
"""

from ml_collections import ConfigDict

from stjax.recipes.non_local import NETS, published
from stjax.recipes.recognition import recipe


@recipe(
    "nonlocal/kinetics_long",
    net=NETS,
    blocks=("nl5", "nl0"),
    clip=("128x1", "32x4"),
)
def get_config(config: ConfigDict, net: str, blocks: str, clip: str) -> None:
    """Variants: a network, the number of non-local blocks, the clips."""
    published(config, clip, name=net, non_local=int(blocks[2:]))


miniature = get_config.miniature
