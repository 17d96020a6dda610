"""TAU on Moving MNIST, 10 -> 10 frames of 64x64.

Published: 200 epochs of 10,000 clips, OneCycle 1e-3, batch 16 on one GPU; MSE 24.60,
MAE 71.93, SSIM .9454, PSNR 23.19 with 44,656,001 parameters and 16.0 GMAC; after 2,000
epochs (--config.train.epochs=2000) 15.69, 51.46, .9661, 25.71 (OpenSTL's tables; the
paper has MSE 19.8, MAE 60.3, SSIM .957).

data.path: a folder with MNIST's train-images-idx3-ubyte.gz and mnist_test_seq.npy.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/moving_mnist")
def get_config(config: ConfigDict) -> None:
    """Widths 64/512, 4 spatial layers, 8 translator blocks, no drop path but the floor.

    The last 5,000 training digits are kept for validation. Variant "official": train on
    all and select the model on the test set, as OpenSTL does.
    """
    benchmark(config, "moving_mnist")
    tau(config, hid_s=64, hid_t=512, n_s=4, n_t=8, drop_path_rate=0.0)
    config.optim.update(name="adam", lr=1e-3)


miniature = get_config.miniature
