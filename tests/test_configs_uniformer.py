"""UniFormer's configs against the values in the authors' run.sh files."""

import pytest

from stjax.config import config_module, list_configs, load_config

# name -> batch, lr, drop path, epochs, warm-up.
RUNS = {
    "kinetics400:s,8x8": (128, 4e-4, 0.1, 100, 10),
    "kinetics400:s,16x4": (32, 1e-4, 0.1, 110, 10),
    "kinetics400:s,16x8": (32, 1e-4, 0.1, 110, 10),
    "kinetics400:s,32x4": (32, 1e-4, 0.1, 110, 10),
    "kinetics400:b,8x8": (64, 2e-4, 0.3, 100, 10),
    "kinetics400:b,16x4": (40, 1.25e-4, 0.3, 110, 10),
    "kinetics400:b,16x8": (40, 1.25e-4, 0.3, 110, 10),
    "kinetics400:b,32x4": (32, 1e-4, 0.3, 110, 10),
    "kinetics600:s,16x4": (96, 3e-4, 0.1, 110, 10),
    "kinetics600:s,16x8": (32, 1e-4, 0.1, 110, 10),
    "kinetics600:b,16x4": (40, 1.25e-4, 0.3, 110, 10),
    "kinetics600:b,16x8": (32, 1.25e-4, 0.3, 110, 10),
    "kinetics600:b,32x4": (32, 1e-4, 0.3, 110, 10),
    "ssv1:s,16,k400": (32, 2e-4, 0.2, 60, 5),
    "ssv1:s,16,k600": (32, 2e-4, 0.2, 60, 5),
    "ssv1:s,32,k400": (32, 2e-4, 0.2, 60, 5),
    "ssv1:s,32,k600": (32, 2e-4, 0.3, 60, 5),
    "ssv1:b,16,k400": (40, 2.5e-4, 0.6, 60, 5),
    "ssv1:b,16,k600": (40, 2.5e-4, 0.5, 60, 5),
    "ssv1:b,32,k400": (32, 2e-4, 0.6, 60, 5),
    "ssv1:b,32,k600": (32, 2e-4, 0.6, 60, 5),
    "ssv2:s,16,k400": (32, 2e-4, 0.3, 50, 5),
    "ssv2:s,16,k600": (32, 2e-4, 0.3, 50, 5),
    "ssv2:s,32,k400": (32, 2e-4, 0.3, 50, 5),
    "ssv2:s,32,k600": (32, 2e-4, 0.3, 50, 5),
    "ssv2:b,16,k400": (40, 2.5e-4, 0.4, 50, 5),
    "ssv2:b,16,k600": (40, 2.5e-4, 0.5, 50, 5),
    "ssv2:b,32,k400": (32, 2e-4, 0.5, 50, 5),
    "ssv2:b,32,k600": (32, 2e-4, 0.5, 50, 5),
    "ucf101": (128, 5e-5, 0.2, 25, 5),
    "hmdb51": (128, 5e-5, 0.2, 25, 5),
}
# Variants without a script: a row of the paper, and combinations nobody published.
WITHOUT_SCRIPT = {"kinetics400:s,32x2", "kinetics400:b,32x2", "kinetics600:s,32x4"}


@pytest.mark.parametrize("name", RUNS)
def test_values_of_the_scripts(name):
    config = load_config(f"uniformer/{name}")
    data, optim = config.data, config.optim
    lr, found = optim.lr, (data.batch, config.model.drop_path_rate)
    found += (config.train.epochs, optim.warmup)
    batch, *rest = RUNS[name]
    assert (batch, *rest[1:]) == found and lr == pytest.approx(rest[0])
    assert optim.name == "adamw" and optim.weight_decay == 0.05 and optim.clip == 20
    assert optim.schedule == "cosine_iterations" and not optim.decay_1d
    assert config.mix.to_dict() == {
        "mixup": 0.8,
        "cutmix": 1.0,
        "prob": 1.0,
        "switch_prob": 0.5,
        "erase": 0.25,
    }
    assert config.loss.label_smoothing == 0.1 and config.loss.name == "cross_entropy"
    assert data.repeats == 2 and data.size == data.test_size == 224
    assert config.train.bn_group * 8 == data.batch and data.aggregate == "logits"


@pytest.mark.parametrize(
    ("name", "sampling", "views", "flip", "augment"),
    [
        ("kinetics400:b,16x8", ("dense", 16, 8), (4, 1), True, "m7-n4-mstd0.5-inc1"),
        ("ssv1:s,32,k600", ("uniform", 32, None), (1, 3), False, "m7-n4-mstd0.5-inc1"),
        ("ssv2", ("uniform", 16, None), (1, 3), False, "m7-n4-mstd0.5-inc1"),
        ("ucf101", ("dense", 16, 4), (5, 3), True, "m5-n2-mstd0.25"),
    ],
)
def test_clips_and_views(name, sampling, views, flip, augment):
    data = load_config(f"uniformer/{name}").data
    assert (data.sampling, data.t_in, data.get("frame_step")) == sampling
    assert (data.clips, data.crops) == views
    assert data.augment.flip == flip and data.augment.rand_augment == f"rand-{augment}"


def test_nothing_is_left_out():
    names = {n for n in list_configs() if n.startswith("uniformer/")}
    names -= {"uniformer/motion_clips", "uniformer/own_videos"}  # no publication
    found = {
        f"{n}:{v}".removeprefix("uniformer/").removesuffix(":")
        for n in names
        for v in config_module(n).get_config.variants
    }
    assert found == set(RUNS) | WITHOUT_SCRIPT
