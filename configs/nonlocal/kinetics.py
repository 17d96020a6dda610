"""Non-local networks on Kinetics-400 as trained by their authors (video-nonlocal-net).

Top-1 / top-5 on validation, 10 clips x 3 crops of 256, clips as frames x step:

- C2D-50: 32x2 nl0 72.0/90.0, nl5 73.9/91.0; 8x8 nl0 71.9/90.0, nl5 74.4/91.4;
- I3D-50: 32x2 nl0 73.6/90.8, nl5 74.9/91.6; 8x8 nl0 73.4/90.9, nl5 74.7/91.6.

In the paper, 32x2, 10 clips of whole frames (Tables 2c, 2e, 2f):

- C2D-50: nl0 71.8/89.7, nl1 72.7/90.5, nl5 73.8/91.0, nl10 74.3/91.2;
- C2D-101: nl0 73.1/91.0, nl1 74.3/91.3, nl5 75.1/91.7, nl10 75.1/91.6;
- I3D-50: nl0 73.3/90.7, nl5 74.9/91.6; I3D-101: nl0 74.4/91.1, nl5 76.0/92.1.

These are the released code's stems, not the paper's Table 1, its scaled softmax and its
pooling before the projections. Longer clips: nonlocal/kinetics_long.

data.path: a folder with train.csv and val.csv (lines ``path label``). train.init_from:
a ResNet for ImageNet (torchvision's, a .pth file, is inflated).
"""

from ml_collections import ConfigDict

from stjax.recipes.non_local import NETS, published
from stjax.recipes.recognition import recipe


@recipe(
    "nonlocal/kinetics",
    net=NETS,
    blocks=("nl5", "nl0", "nl1", "nl10"),
    clip=("32x2", "8x8"),
)
def get_config(config: ConfigDict, net: str, blocks: str, clip: str) -> None:
    """Variants: a network, the number of non-local blocks, the clips."""
    published(config, clip, name=net, non_local=int(blocks[2:]))


miniature = get_config.miniature
