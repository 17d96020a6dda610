"""TAU on Kinetics-400, 4 -> 4 frames of 256x256 rgb.

OpenSTL has this config (4 GPUs with 4 clips each, drop path 0.1) and publishes no
results. It sets neither learning rate nor schedule nor epochs: these are the defaults
of its command line, OneCycle 1e-3 and 200 epochs.

data.path: the folder with annotations/ and the videos of each split.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/kinetics")
def get_config(config: ConfigDict) -> None:
    """The model of Human3.6M: 37,647,363 parameters, 182 GMAC."""
    benchmark(config, "kinetics")
    tau(config, hid_s=64, hid_t=512, n_s=4, n_t=8, drop_path_rate=0.1)
    config.optim.update(name="adam", lr=1e-3)


miniature = get_config.miniature
