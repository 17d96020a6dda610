"""Fusion search on UCF101 as published (CVPR 2020, arXiv 2004.04981).

Top-1 of one clip from ImageNet's weights, by network and strategy:

===========  =====  =====  =====  =====
             s      st     s_st   opt
===========  =====  =====  =====  =====
densenet121  83.6   83.1   84.2   84.2
resnet50     81.2   81.6   82.4   82.4
resnext50    83.9   82.9   85.1   85.1
mobilenetv2  81.3   80.8   81.8   81.8
===========  =====  =====  =====  =====

The published opt is s_st itself, and the probabilities of the search hardly moved from
their start. Rest as in ``fusion/ssv1``, but clips are mirrored.

data.path: a folder with the official lists of the splits and the videos. data.fold: the
split, 1 to 3. train.init_from: the same network for ImageNet, torchvision's .pth file.
"""

from ml_collections import ConfigDict

from stjax.recipes.fusion import STRATEGIES, published
from stjax.recipes.recognition import recipe

NETS = ("densenet121", "resnet50", "resnext50", "mobilenetv2")


@recipe("fusion/ucf101", net=NETS, strategy=STRATEGIES)
def get_config(config: ConfigDict, net: str, strategy: str) -> None:
    """Variants: a network, and a search or a fixed strategy."""
    published(config, "ucf101", net, strategy, weight_reg=50, n_train=None, flip=True)


miniature = get_config.miniature
