"""TAU trained on KITTI, tested on Caltech Pedestrian, 10 -> 1 frames of 128x160 rgb.

Published: 100 epochs, OneCycle 1e-2, batch 16 on one GPU; MSE 131.1, MAE 1507.8, SSIM
.9456, PSNR 27.83, LPIPS .05494 (OpenSTL's tables, which print 44.7M parameters and 80.0
GMAC; its config has 14,956,483 and 92.5 and is what made the results).

10 frames are computed and the first is kept, so that the divergence, which needs
three frames, is 0.

data.path: the folder with kitti_hkl/ and caltech/, or kitticaltech_npy/.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/kitti_caltech")
def get_config(config: ConfigDict) -> None:
    """Widths 64/256, 2 spatial layers, 6 translator blocks, drop path 0.1."""
    benchmark(config, "kitti_caltech")
    tau(config, hid_s=64, hid_t=256, n_s=2, n_t=6, drop_path_rate=0.1)
    config.optim.update(name="adam", lr=1e-2)


miniature = get_config.miniature
