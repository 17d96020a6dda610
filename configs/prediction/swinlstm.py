"""SwinLSTM-D on Moving MNIST, the one published config of it: OneCycle 1e-4, batch 16.

MSE 17.7, SSIM .962 with 20,191,969 parameters and 69.6 GMAC (its paper, as quoted by
PredFormer's). The config names no epochs: 2,000 are those of the benchmark's long runs.
No scheduled sampling.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe


@recipe("prediction/swinlstm", dataset=("moving_mnist",))
def get_config(config: ConfigDict, dataset: str) -> None:
    """Two stages down, two up, windows of 4."""
    benchmark(config, dataset)
    config.train.epochs = 2_000
    config.optim.lr = 1e-4
    config.model = {
        "name": "swinlstm",
        "embed_dim": 128,
        "depths_downsample": (2, 6),
        "depths_upsample": (6, 2),
        "num_heads": (4, 8),
        "window_size": 4,
    }


def miniature(variant: str | None = None) -> ConfigDict:
    """A tiny model on a miniature of the data set, for tests."""
    config = get_config.miniature(variant)
    with config.unlocked():
        config.model.update(depths_downsample=(2, 2), depths_upsample=(2, 2))
        config.model.num_heads = (2, 2)
    return config
