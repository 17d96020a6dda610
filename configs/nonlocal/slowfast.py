"""C2D and I3D 8x8 on Kinetics-400 as PySlowFast trains them.

Top-1 / top-5, 10 clips x 3 crops of 256, ResNet-50: c2d (without the pool after res2)
67.2/87.8, i3d 73.5/90.8, i3d_nln 74.0/91.1, all from scratch. Its blocks gain a third
of what the authors' do: it draws their kernels by He's rule, and its ResNet-101 has the
blocks of res4 after 1, 3 and 5, not spread over the 23.

data.path: a folder with train.csv and val.csv (lines ``path label``). Variant "in1k"
wants train.init_from, a ResNet for ImageNet (torchvision's, a .pth file, is inflated).
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import dataset, recipe, sampling, training

_PLACES = ("res3_1", "res3_3", "res4_1", "res4_3", "res4_5")
NETS = {
    "i3d_nln_r50": {"name": "i3d_r50", "places": _PLACES},
    "i3d_nln_r101": {"name": "i3d_r101", "places": _PLACES},
    "i3d_r50": {"name": "i3d_r50"},
    "c2d_r50": {"name": "c2d_r50", "stem": "slowfast_nopool"},
}


@recipe("nonlocal/slowfast", net=tuple(NETS), start=("scratch", "in1k"))
def get_config(config: ConfigDict, net: str, start: str) -> None:
    """Variants: a network, and from scratch or from ImageNet.

    SGD with Nesterov momentum, 64 clips a step. From scratch: 196 epochs, cosine from
    0.1, the first 34 epochs a line up from 0.01. From ImageNet: 118 epochs from 0.01, a
    tenth of it after 44 and again after 88.
    """
    config.model = {"non_local_std": None, **NETS[net]}
    dataset(config, "kinetics400")
    sampling(config, 8, 8, "slowfast", jitter=(256, 320))
    sgd = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "decay_1d": False}
    if start == "scratch":
        schedule = {
            "schedule": "cosine_iterations",
            "lr": 0.1,
            "lr_min": 0.0,
            "warmup": 34,
            "warmup_lr": 0.01,
            "after_warmup": False,
        }
        config.train.epochs = 196
    else:
        schedule = {
            "schedule": "steps",
            "lr": 0.01,
            "milestones": (0, 44, 88),
            "factors": (1.0, 0.1, 0.01),
        }
        config.train.epochs = 118
    training(config, batch=64, name="sgd", **sgd, **schedule)
    config.train.update(eval_every=36_000, save_every=2_000, bn_group=8, precise_bn=200)


miniature = get_config.miniature
