"""How the authors of the non-local networks trained on Kinetics.

A module of its own because Python cannot import from a package named ``nonlocal``.
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import dataset, sampling, training

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
    again from 300,000; 64 clips a step, batch statistics of 8 (a GPU's share). Long
    clips: 16 a step, batch statistics frozen, blocks without BN; those of res3 see 4
    frames each.
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
        steps=400_000, eval_every=50_000, save_every=2_000, bn_group=8, precise_bn=200
    )
    if clip in LONG:
        config.model.update(frozen_bn=True, non_local_norm=False, temporal_groups=4)
        config.data.batch = 16
        config.optim.lr = 0.0025
        config.train.update(bn_group=None, precise_bn=None)
