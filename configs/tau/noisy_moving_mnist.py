"""TAU on Moving MNIST with disturbed training inputs, 10 -> 10 frames of 64x64.

OpenSTL has this config (OneCycle 5e-3, batch 16) and publishes no results; the 200
epochs are those of its command line's default.

data.path: as for Moving MNIST: a folder with train-images-idx3-ubyte.gz and
mnist_test_seq.npy. Validation and test clips are clean.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/noisy_moving_mnist", noise=("dynamic", "missing", "perceptual"))
def get_config(config: ConfigDict, noise: str) -> None:
    """Variants: shaken velocities, black frames, a black square in each frame."""
    benchmark(config, "noisy_moving_mnist")
    config.data.noise = noise
    tau(config, hid_s=64, hid_t=512, n_s=4, n_t=8, drop_path_rate=0.0)
    config.optim.update(name="adam", lr=5e-3)


miniature = get_config.miniature
