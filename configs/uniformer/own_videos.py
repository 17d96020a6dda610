"""UniFormer-S on your own videos, one folder a class.

    stjax train --config=uniformer/own_videos --config.data.path=videos --workdir=DIR

data.path: ``CLASS/*.mp4``, split by the names of the files into training, validation
and test; or ``train/CLASS/*.mp4``, ``validation/...`` and ``test/...``. The frames of a
video may also be images in a folder of its own.

Training is UCF101's (fine-tuning, 25 epochs) with 16 clips a step. train.init_from:
UniFormer-S on Kinetics, a workdir or the authors' file; its head is replaced.
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import recipe
from stjax.recipes.uniformer import small


@recipe("uniformer/own_videos")
def get_config(config: ConfigDict) -> None:
    """No variants."""
    small(config, "ucf101")
    del config.data["num_classes"]
    config.data.update(format="folders", batch=16, workers=2, bad="error")
    config.data.skip_unreadable = False
    config.optim.lr = 5e-5 * 16 / 128
    config.train.bn_group = None
    config.metrics = ()


miniature = get_config.miniature
