"""E3D-LSTM as published by OpenSTL: 4 layers of 128, MSE + MAE.

MSE on Moving MNIST 35.97 after 200 epochs, 24.07 after 2,000, TaxiBJ .3427, KTH 136.40
(2 GPUs with 8 clips each), KITTI 200.6 (4 GPUs with 4 each); batch 16 in all.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe

# data set: side of a patch, stride of the convolutions, learning rate.
FIELDS = {
    "moving_mnist": (4, 1, 1e-4),
    "taxibj": (2, 1, 5e-3),
    "kth": (8, 2, 5e-4),
    "kitti_caltech": (4, 1, 2.5e-3),
}


@recipe("prediction/e3dlstm", dataset=tuple(FIELDS))
def get_config(config: ConfigDict, dataset: str) -> None:
    """Variants: a data set."""
    benchmark(config, dataset)
    patch, stride, config.optim.lr = FIELDS[dataset]
    config.model = {
        "name": "e3dlstm",
        "num_hidden": (128,) * 4,
        "filter_size": 5,
        "patch_size": patch,
        "conv_stride": stride,
    }
    config.loss.name = "mse_mae"


miniature = get_config.miniature
