"""PredRNN as published by OpenSTL: 4 layers of 128, filter 5, batch 16.

MSE on Moving MNIST 23.97 after 200 epochs (26.43 after 2,000 in their table), TaxiBJ
.3194, KTH 41.07, KITTI 130.4. On KTH and KITTI 100 epochs are fewer than the 50,000
updates after which the scheduled sampling is all closed loop, as they were.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe

# data set: side of a patch, learning rate.
FIELDS = {
    "moving_mnist": (4, 5e-4),
    "taxibj": (2, 1e-4),
    "kth": (2, 1e-3),
    "kitti_caltech": (2, 1e-2),
}


@recipe("prediction/predrnn", dataset=tuple(FIELDS))
def get_config(config: ConfigDict, dataset: str) -> None:
    """Variants: a data set."""
    benchmark(config, dataset)
    patch, config.optim.lr = FIELDS[dataset]
    config.model = {
        "name": "predrnn",
        "num_hidden": (128,) * 4,
        "filter_size": 5,
        "patch_size": patch,
    }


miniature = get_config.miniature
