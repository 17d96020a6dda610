"""Non-local I3D-101 on Charades, clips of 128 frames, one sigmoid a class.

mAP of the paper's Table 4, trained on train and tested on validation: i3d 35.5, nl_i3d
37.5 (trained on both and tested on the hidden test set: 37.2 and 39.5). The score of a
video is the largest of its views'.

data.path: a folder with PySlowFast's frame lists (train.csv, val.csv) or with
Charades_v1_train.csv, Charades_v1_test.csv and the videos. train.init_from: the workdir
of ``nonlocal/kinetics_long:i3d_r101``, or with nl0; its head is replaced.
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import dataset, recipe, sampling, training


@recipe("nonlocal/charades", net=("nl_i3d", "i3d"))
def get_config(config: ConfigDict, net: str) -> None:
    """Variants: with 5 non-local blocks or none.

    200,000 steps of 8 clips, one a GPU, from .00125, a tenth of it after every 75,000;
    batch statistics are Kinetics'. A crop of 224 is seen at 288, tests at 320.
    """
    config.model = {
        "name": "i3d_r101",
        "non_local": 5 if net == "nl_i3d" else 0,
        "stem": "caffe2_long",
        "window": 9,
        "frozen_bn": True,
        "non_local_norm": False,
        "temporal_groups": 4,
    }
    dataset(config, "charades")
    sampling(
        config,
        128,
        1,
        "strided",
        size=288,
        test_size=320,
        aggregate="max",
        jitter=(329, 411),  # 256 to 320, enlarged by 288 / 224
    )
    training(
        config,
        batch=8,
        name="sgd",
        lr=0.00125,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        decay_1d=False,
        schedule="steps",
        milestones=(0, 75_000, 150_000),
        milestone_unit="steps",
        factors=(1.0, 0.1, 0.01),
    )
    config.train.update(steps=200_000, eval_every=25_000, save_every=2_000)


miniature = get_config.miniature
