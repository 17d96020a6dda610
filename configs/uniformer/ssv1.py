"""UniFormer on Something-Something V1 as published, e.g. ``uniformer/ssv1:b,32,k600``.

Top-1 / top-5 on validation with 1 clip x 3 crops, by model, frames and pre-training; S
has 21,284,462 parameters, B 49,697,262:

======  ==============  ==============
        k400            k600
======  ==============  ==============
S 16    57.2/84.9       57.6/84.9
S 32    58.8/86.4       59.9/86.2
B 16    59.1/86.2       58.8/86.5
B 32    60.9/87.3       61.0/87.6
======  ==============  ==============

One crop (``data.crops=1``): 53.8, 54.4; 55.8, 56.9; 55.4, 55.7; 58.1, 58.0 in the
order of the table. Best: B 32 k600 with 2 clips (``data.clips=2``) 61.2.

Clips are never mirrored: left and right are labels.

data.path: a folder with the data set's lists and frames or videos. train.init_from: the
16x4 model of the same size on Kinetics-400 (k400) or Kinetics-600 (k600), a workdir or
the authors' file; its head is replaced.
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import recipe
from stjax.recipes.uniformer import MODELS, something

# model, frames, pre-training: drop path.
DROP_PATH = {
    ("s", "16", "k400"): 0.2,
    ("s", "16", "k600"): 0.2,
    ("s", "32", "k400"): 0.2,
    ("s", "32", "k600"): 0.3,
    ("b", "16", "k400"): 0.6,
    ("b", "16", "k600"): 0.5,
    ("b", "32", "k400"): 0.6,
    ("b", "32", "k600"): 0.6,
}


@recipe("uniformer/ssv1", model=MODELS, frames=("16", "32"), pretrain=("k400", "k600"))
def get_config(config: ConfigDict, model: str, frames: str, pretrain: str) -> None:
    """Variants: a model, the frames and the data set that it was trained on before."""
    drop = DROP_PATH[model, frames, pretrain]
    something(config, "ssv1", model, int(frames), 60, drop)


miniature = get_config.miniature
