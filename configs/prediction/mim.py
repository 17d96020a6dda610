"""MIM as published by OpenSTL: 4 layers of 128, filter 5, batch 16.

MSE on Moving MNIST 22.55 after 200 epochs, 14.73 after 2,000, TaxiBJ .3110, KTH 40.73,
KITTI 125.1. OpenSTL carries an inner state over from batch to batch; here every
sequence starts from zero.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe

# data set: side of a patch, learning rate.
FIELDS = {
    "moving_mnist": (4, 5e-4),
    "taxibj": (2, 1e-2),
    "kth": (4, 1e-4),
    "kitti_caltech": (2, 1e-2),
}


@recipe("prediction/mim", dataset=tuple(FIELDS))
def get_config(config: ConfigDict, dataset: str) -> None:
    """Variants: a data set."""
    benchmark(config, dataset)
    patch, config.optim.lr = FIELDS[dataset]
    config.model = {
        "name": "mim",
        "num_hidden": (128,) * 4,
        "filter_size": 5,
        "patch_size": patch,
    }


miniature = get_config.miniature
