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

(frames x step; the paper's Tables 2c, 2f and 2g have ResNet-101 too, up to 77.7/93.3 for
I3D of 128 frames with 5 blocks.) Not the paper's Table 1 but the released code's stems,
and its scaled softmax and pooling before the projections.

data.path: a folder with train.csv and val.csv (lines ``path label``). train.init_from:
clips of 32x2 and 8x8 start from a ResNet for ImageNet (torchvision's, a .pth file, is
inflated), those of 128x1 and 32x4 from the workdir of the 32x2 or the 8x8 model with as
many layers and no blocks.
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import dataset, recipe, sampling, training

NETS = ("i3d_r50", "i3d_r101", "c2d_r50", "c2d_r101")
# frames, step and stem of clips.
CLIPS = {
    "8x8": (8, 8, "caffe2"),
    "32x2": (32, 2, "caffe2_long"),
    "32x4": (32, 4, "caffe2"),
    "128x1": (128, 1, "caffe2_long"),
}
LONG = ("32x4", "128x1")


def published(config: ConfigDict, clip: str, **model: object) -> None:
    """The authors' training of a model with these fields on clips of that kind.

    SGD with Nesterov momentum for 400,000 steps, a tenth of the rate from 150,000 and
    again from 300,000; 64 clips a step (8 GPUs x 8). Long clips: 16 a step, batch
    statistics frozen, blocks without BN; those of res3 see 4 frames each.
    """
    frames, step, stem = CLIPS[clip]
    config.model = {"stem": stem, **model}
    dataset(config, "kinetics400")
    sampling(config, frames, step, "strided", jitter=(256, 320))
    training(
        config,
        batch=64,
        name="sgd",
        lr=0.01,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        decay_1d=False,
        schedule="steps",
        milestones=(0, 150_000, 300_000),
        milestone_unit="steps",
        factors=(1.0, 0.1, 0.01),
    )
    config.train.update(
        steps=400_000, eval_every=50_000, save_every=2_000, precise_bn=200
    )
    if clip in LONG:
        config.model.update(frozen_bn=True, non_local_norm=False, temporal_groups=4)
        config.data.batch = 16
        config.optim.lr = 0.0025
        config.train.precise_bn = None


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
