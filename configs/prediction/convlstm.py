"""ConvLSTM as published by OpenSTL: 4 layers, filter 5, scheduled sampling, batch 16.

MSE on Moving MNIST 29.80 after 200 epochs ("l": 27.78), TaxiBJ .3358, KTH 47.65, KITTI
139.6. The tables come from the formula h = o * g ("0.3.0"), not from the paper's;
see `stjax.models.recurrent.convlstm`. On KTH and KITTI 100 epochs are fewer than the
50,000 updates after which the sampling is all closed loop, as they were.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe

# data set: side of a patch, learning rate.
FIELDS = {
    "moving_mnist": (4, 5e-4),
    "taxibj": (2, 5e-4),
    "kth": (2, 1e-3),
    "kitti_caltech": (2, 5e-3),
}


@recipe("prediction/convlstm", dataset=tuple(FIELDS), size=("s", "l"))
def get_config(config: ConfigDict, dataset: str, size: str) -> None:
    """Variants: a data set; "l" for 192 channels (published on Moving MNIST only)."""
    benchmark(config, dataset)
    patch, config.optim.lr = FIELDS[dataset]
    config.model = {
        "name": "convlstm",
        "num_hidden": (192 if size == "l" else 128,) * 4,
        "filter_size": 5,
        "patch_size": patch,
        "version": "0.3.0",
    }


miniature = get_config.miniature
