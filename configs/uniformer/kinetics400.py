"""UniFormer on Kinetics-400 as published, e.g. ``uniformer/kinetics400:b,32x4``.

Top-1 / top-5 on validation with 4 clips x 1 crop, clips as frames x step; S has
21,400,400 parameters, B 49,813,200:

====  ==============  ==============
clip  S               B
====  ==============  ==============
16x4  80.8/94.7       82.0/95.1
16x8  80.8/94.4       81.7/94.8
8x8   78.4            79.8
32x4  82.0/95.1       82.9/95.4
32x2  81.2/94.7
====  ==============  ==============

One view (``data.clips=1``): 76.2, 78.4 (16x8), 79.8 (32x4) and 77.3 (32x2) for S, 78.1,
79.3 (16x8) and 80.9 (32x4) for B; B 32x4 with 3 crops (``data.crops=3``) 83.0/95.4.

The paper says that B's drop path is twice that of S, the authors' scripts have three
times (taken here). Batch statistics are over an eighth of the batch, the clips of one
of 8 GPUs. 32 frames of B need ``remat="full"`` on most devices; the authors were out of
memory, too.

data.path: a folder with train.csv and val.csv (lines ``path label``). The labels of
the authors' lists are in an order of their own: for their weights name it by
data.labels. train.init_from: UniFormer for ImageNet-1K without token labelling or
layer scale (uniformer_small_in1k.pth, uniformer_base_in1k.pth), which is inflated; from
scratch S reaches 75.1 in place of 78.4.
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import recipe
from stjax.recipes.uniformer import MODELS, kinetics

# (frames, model): clips of a step. The learning rate is 1e-4 for every 32.
BATCH = {("s", 8): 128, ("s", 16): 32, ("s", 32): 32}
BATCH |= {("b", 8): 64, ("b", 16): 40, ("b", 32): 32}


@recipe(
    "uniformer/kinetics400",
    model=MODELS,
    clip=("16x4", "16x8", "8x8", "32x4", "32x2"),
)
def get_config(config: ConfigDict, model: str, clip: str) -> None:
    """Variants: a model and the clips (S 32x2 has no script; it is taken as 32x4)."""
    batch = BATCH[model, int(clip.partition("x")[0])]
    kinetics(config, "kinetics400", model, clip, batch, 1e-4 * batch / 32)


miniature = get_config.miniature
