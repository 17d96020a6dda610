"""MAU as published by OpenSTL: 4 layers of 64, attention over 5 steps, batch 16.

MSE on Moving MNIST 26.86 after 200 epochs, 22.25 after 2,000, TaxiBJ .3268, KTH 51.02,
KITTI 177.8.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe

# data set: how far the encoder reduces the sides, learning rate.
FIELDS = {
    "moving_mnist": (4, 1e-3),
    "taxibj": (2, 1e-3),
    "kth": (2, 5e-4),
    "kitti_caltech": (2, 1e-3),
}


@recipe("prediction/mau", dataset=tuple(FIELDS))
def get_config(config: ConfigDict, dataset: str) -> None:
    """Variants: a data set."""
    benchmark(config, dataset)
    sr_size, config.optim.lr = FIELDS[dataset]
    config.model = {
        "name": "mau",
        "num_hidden": (64,) * 4,
        "filter_size": 5,
        "sr_size": sr_size,
        "tau": 5,
        "cell_mode": "normal",
        "model_mode": "normal",
    }


miniature = get_config.miniature
