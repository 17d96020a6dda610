"""Fusion search on Something-Something V1 as published (CVPR 2020, arXiv 2004.04981).

Top-1 of one clip, by network and strategy:

===========  =====  =====  =====  =====
             s      st     s_st   opt
===========  =====  =====  =====  =====
densenet121  41.8   47.5   46.5   50.2
resnet50     33.8   40.1   38.9   41.2
resnext50    35.2   42.1   40.7   43.6
resnext101   36.6   42.7   42.3   44.0
===========  =====  =====  =====  =====

The opt of DenseNet-121 is the best of the search, the others' are made by hand from it;
in ResNets st, s_st and opt are the same function class (`stjax.search.fuse`), so what
they differ by is not fusion. The baselines' training is not told, nor how many frames
gave 50.2; here 16, every other one, and no stride in time, as in the authors' scripts.

The authors chose the best strategy on the validation clips that they report. `stjax
search rank` refuses that: set search.holdout=0.1.

data.path: a folder with the data set's lists and frames or videos. train.init_from: the
same network for ImageNet, torchvision's .pth file.
"""

from ml_collections import ConfigDict

from stjax.recipes.fusion import STRATEGIES, published
from stjax.recipes.recognition import recipe

NETS = ("densenet121", "resnet50", "resnext50", "resnext101")


@recipe("fusion/ssv1", net=NETS, strategy=STRATEGIES)
def get_config(config: ConfigDict, net: str, strategy: str) -> None:
    """Variants: a network, and a search or a fixed strategy."""
    published(config, "ssv1", net, strategy, weight_reg=250, n_train=86_017)


miniature = get_config.miniature
