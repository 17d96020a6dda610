"""TAU on Moving MNIST in front of CIFAR-10 pictures, 10 -> 10 frames of 64x64 rgb.

Published: 200 epochs, OneCycle 5e-3, batch 16 on one GPU; MSE 48.17, MAE 177.35, SSIM
.9539, PSNR 25.21 with 44,657,283 parameters and 16.0 GMAC (OpenSTL's tables).

data.path: a folder with MNIST's train-images-idx3-ubyte.gz, mnist_cifar_test_seq.npy
and cifar10/cifar-10-batches-py.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/moving_mnist_cifar")
def get_config(config: ConfigDict) -> None:
    """As on Moving MNIST, with a learning rate of 5e-3."""
    benchmark(config, "moving_mnist_cifar")
    tau(config, hid_s=64, hid_t=512, n_s=4, n_t=8, drop_path_rate=0.0)
    config.optim.update(name="adam", lr=5e-3)


miniature = get_config.miniature
