"""UniFormer on Something-Something V2 as published, e.g. ``uniformer/ssv2:b,32,k600``.

Top-1 / top-5 on validation with 1 clip x 3 crops, by model, frames and pre-training; S
has 21,284,462 parameters, B 49,697,262:

======  ==============  ==============
        k400            k600
======  ==============  ==============
S 16    67.7/91.4       69.4/92.1
S 32    69.0/91.7       70.4/93.1
B 16    70.4/92.8       70.2/93.0
B 32    71.2/92.8       71.2/92.8
======  ==============  ==============

One crop (``data.crops=1``): 63.5, 65.0; 64.9, 66.4; 65.8, 66.1; 67.2, 67.5 in the
order of the table. Best: B 32 k400 with 2 clips (``data.clips=2``) 71.4.

Clips are never mirrored: left and right are labels. The test list has no
labels: all published numbers are of validation.

data.path: a folder with the data set's lists and frames or videos. train.init_from: the
16x4 model of the same size on Kinetics-400 (k400) or Kinetics-600 (k600), a workdir or
the authors' file; its head is replaced.
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import recipe
from stjax.recipes.uniformer import MODELS, something

# model, frames, pre-training: drop path.
DROP_PATH = {
    ("s", "16", "k400"): 0.3,
    ("s", "16", "k600"): 0.3,
    ("s", "32", "k400"): 0.3,
    ("s", "32", "k600"): 0.3,
    ("b", "16", "k400"): 0.4,
    ("b", "16", "k600"): 0.5,
    ("b", "32", "k400"): 0.5,
    ("b", "32", "k600"): 0.5,
}


@recipe("uniformer/ssv2", model=MODELS, frames=("16", "32"), pretrain=("k400", "k600"))
def get_config(config: ConfigDict, model: str, frames: str, pretrain: str) -> None:
    """Variants: a model, the frames and the data set that it was trained on before."""
    drop = DROP_PATH[model, frames, pretrain]
    something(config, "ssv2", model, int(frames), 50, drop)


miniature = get_config.miniature
