"""TAU on TaxiBJ, 4 -> 4 half hours of taxi in- and outflow on 32x32 cells.

Published: 50 epochs, batch 16 on one GPU, cosine 5e-4 with 5 warm-up epochs from 1e-5
and a lowest rate of 1e-6; MSE .3108, MAE 14.93, SSIM .9848, PSNR 39.74 with 9,545,442
parameters and 2.49 GMAC (OpenSTL's tables; the paper has MSE .344, MAE 15.6).

data.path: dataset.npz (X_train, Y_train, X_test, Y_test), or its folder.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/taxibj")
def get_config(config: ConfigDict) -> None:
    """Widths 32/256, 2 spatial layers, 8 translator blocks, drop path 0.1."""
    benchmark(config, "taxibj")
    tau(config, hid_s=32, hid_t=256, n_s=2, n_t=8, drop_path_rate=0.1)
    config.optim.update(name="adam", lr=5e-4)


miniature = get_config.miniature
