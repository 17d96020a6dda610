"""Fusion search on Something-Something V2 as published (CVPR 2020, arXiv 2004.04981).

Top-1 of one clip, by network and strategy:

===========  =====  =====  =====  =====
             s      st     s_st   opt
===========  =====  =====  =====  =====
densenet121  55.1   60.5   59.5   62.4
mobilenetv2  52.9   59.3   59.7   59.5
===========  =====  =====  =====  =====

Rest as in ``fusion/ssv1``.

data.path: a folder with the data set's lists and frames or videos. train.init_from: the
same network for ImageNet, torchvision's .pth file.
"""

from ml_collections import ConfigDict

from stjax.recipes.fusion import STRATEGIES, published
from stjax.recipes.recognition import recipe

NETS = ("densenet121", "mobilenetv2")


@recipe("fusion/ssv2", net=NETS, strategy=STRATEGIES)
def get_config(config: ConfigDict, net: str, strategy: str) -> None:
    """Variants: a network, and a search or a fixed strategy."""
    published(
        config,
        "ssv2",
        net,
        strategy,
        weight_reg=50,
        n_train=168_913,
        first=(65, (35, 50, 60)),
    )


miniature = get_config.miniature
