"""PhyDNet as published by OpenSTL, batch 16.

MSE on Moving MNIST 28.19 after 200 epochs, 20.35 after 2,000, TaxiBJ .3622, KTH 91.12,
KITTI 312.2. The teacher forcing fades by epochs: `steps_per_epoch` is that of the
official training sets (10,000, 20,461, 5,200 and 2,042 clips).
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe

# data set: side of a patch, learning rate, updates of an epoch.
FIELDS = {
    "moving_mnist": (4, 1e-3, 625),
    "taxibj": (2, 5e-4, 1_278),
    "kth": (4, 1e-3, 325),
    "kitti_caltech": (4, 5e-3, 127),
}


@recipe("prediction/phydnet", dataset=tuple(FIELDS))
def get_config(config: ConfigDict, dataset: str) -> None:
    """Variants: a data set."""
    benchmark(config, dataset)
    patch, config.optim.lr, epoch = FIELDS[dataset]
    config.model = {"name": "phydnet", "patch_size": patch, "steps_per_epoch": epoch}


miniature = get_config.miniature
