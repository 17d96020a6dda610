"""TAU on Human3.6M, 4 -> 4 frames of 256x256 rgb.

Published: 50 epochs, batch 16 on one GPU; MSE 113.3, MAE 1390.7, SSIM .9839, PSNR
34.03, LPIPS .02783 with 37,647,363 parameters and 182 GMAC (OpenSTL's tables). The
official config names no schedule, which would mean OneCycle; the tables say cosine,
which is taken here. (Their text says 100 epochs once, their rows 50.)

data.path: the folder with images/, train.txt and test.txt.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/human")
def get_config(config: ConfigDict) -> None:
    """Widths 64/512, 4 spatial layers, 8 translator blocks, drop path 0.1."""
    benchmark(config, "human")
    tau(config, hid_s=64, hid_t=512, n_s=4, n_t=8, drop_path_rate=0.1)
    config.optim.update(name="adam", lr=1e-3)


miniature = get_config.miniature
