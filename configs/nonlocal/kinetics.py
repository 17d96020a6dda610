"""Non-local networks on Kinetics-400 as trained by their authors (video-nonlocal-net).

Top-1 / top-5 on validation, 10 clips x 3 crops of 256, ResNet-50, with 0 and 5 blocks:

========  ======================  ======================
clip      C2D                     I3D
========  ======================  ======================
32x2      72.0/90.0, 73.9/91.0    73.6/90.8, 74.9/91.6
8x8       71.9/90.0, 74.4/91.4    73.4/90.9, 74.7/91.6
32x4                              75.5/92.0, 76.5/92.6
128x1     73.8/91.2               75.2/92.0, 76.5/92.7
========  ======================  ======================

(frames x step; the paper's Tables 2c, 2f and 2g have ResNet-101 too, up to 77.7/93.3
for I3D of 128 frames with 5 blocks.) These are the released code's stems, not the
paper's Table 1, its scaled softmax and its pooling before the projections.

data.path: a folder with train.csv and val.csv (lines ``path label``). train.init_from:
clips of 32x2 and 8x8 start from a ResNet for ImageNet (torchvision's, a .pth file, is
inflated), those of 128x1 and 32x4 from the workdir of the 32x2 or the 8x8 model with as
many layers and no blocks.
"""

from ml_collections import ConfigDict

from stjax.recipes.non_local import CLIPS, published
from stjax.recipes.recognition import recipe

NETS = ("i3d_r50", "i3d_r101", "c2d_r50", "c2d_r101")


@recipe(
    "nonlocal/kinetics",
    net=NETS,
    blocks=("nl5", "nl0", "nl1", "nl10"),
    clip=tuple(CLIPS),
)
def get_config(config: ConfigDict, net: str, blocks: str, clip: str) -> None:
    """Variants: a network, the number of non-local blocks, the clips."""
    published(config, clip, name=net, non_local=int(blocks[2:]))


miniature = get_config.miniature
