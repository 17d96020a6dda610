"""UniFormer-S on HMDB51 as published: 16x4, from Kinetics-400.

Top-1 on the test videos of split 1 with 5 clips x 3 crops: 77.5 (the authors' README;
the paper has no such row). 21,221,363 parameters. Their validation list is the
test list and they chose the best epoch on it: that is ``train.select_on=test``.

data.path: a folder with the official lists of the splits and the videos. data.fold: the
split, 1 to 3. train.init_from: UniFormer-S 16x4 on Kinetics-400, a workdir or the
authors' file; its head is replaced.
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import recipe
from stjax.recipes.uniformer import small


@recipe("uniformer/hmdb51")
def get_config(config: ConfigDict) -> None:
    """No variants."""
    small(config, "hmdb51")


miniature = get_config.miniature
