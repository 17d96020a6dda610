"""Fusion search on Kinetics-400 as published (CVPR 2020, arXiv 2004.04981).

Top-1 of one clip, by network and strategy:

===========  =====  =====  =====  =====
             s      st     s_st   opt
===========  =====  =====  =====  =====
densenet121  67.8   68.3   69.7   71.7
resnext101   70.6   70.9          72.0
===========  =====  =====  =====  =====

With two clips of 128 frames (``data.t_in=128 data.clips=2``) the DenseNet has 72.5 for
254 GFLOPs each: those of a network that reduces time by 8, so it does here, on clips of
32 frames, the default of the authors' program; how many they trained on is not told,
nor the learning rate of the first phase. The table says "from scratch", which their
program cannot do.

data.path: a folder with train.csv and val.csv (lines ``path label``). train.init_from:
the same network for ImageNet, torchvision's .pth file.
"""

from ml_collections import ConfigDict

from stjax.recipes.fusion import STRATEGIES, published
from stjax.recipes.recognition import recipe

NETS = ("densenet121", "resnext101")


@recipe("fusion/kinetics400", net=NETS, strategy=STRATEGIES)
def get_config(config: ConfigDict, net: str, strategy: str) -> None:
    """Variants: a network, and a search or a fixed strategy."""
    strided = {"temporal_stride": 8} if net == "densenet121" else {}
    published(
        config,
        "kinetics400",
        net,
        strategy,
        weight_reg=10,
        n_train=None,
        gated=(110, (40, 80)),
        batch=64,
        lr=0.01,
        frames=(32, 1),
        flip=True,
        **strided,
    )


miniature = get_config.miniature
