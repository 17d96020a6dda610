"""TAU on Moving FashionMNIST, 10 -> 10 frames of 64x64.

Published: 200 epochs, OneCycle 1e-3, batch 16 on one GPU; MSE 24.24, MAE 96.72, SSIM
.8995, PSNR 22.87 with 44,656,001 parameters and 16.0 GMAC (OpenSTL's tables).

data.path: a folder with FashionMNIST's train-images-idx3-ubyte.gz and
fmnist_test_seq.npy.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/moving_fmnist")
def get_config(config: ConfigDict) -> None:
    """Widths 64/512, 4 spatial layers, 8 translator blocks, as on Moving MNIST."""
    benchmark(config, "moving_fmnist")
    tau(config, hid_s=64, hid_t=512, n_s=4, n_t=8, drop_path_rate=0.0)
    config.optim.update(name="adam", lr=1e-3)


miniature = get_config.miniature
