"""TAU on BAIR robot pushing, 4 -> 12 frames of 64x64 rgb.

OpenSTL has this config (batch 16, drop path 0.1) and publishes no results. It sets
neither learning rate nor schedule nor epochs: these are the defaults of its command
line, OneCycle 1e-3 and 200 epochs. 12 frames are 3 calls.

data.path: see the data source "bair".
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/bair")
def get_config(config: ConfigDict) -> None:
    """Widths 64/256, 2 spatial layers, 8 translator blocks, drop path 0.1."""
    benchmark(config, "bair")
    tau(config, hid_s=64, hid_t=256, n_s=2, n_t=8, drop_path_rate=0.1)
    config.optim.update(name="adam", lr=1e-3)


miniature = get_config.miniature
