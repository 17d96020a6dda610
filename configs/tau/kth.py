"""TAU on KTH actions, 10 -> 20 or 40 grey frames of 128x128.

Published: 100 epochs, OneCycle 1e-3, batch 16; 10 -> 20: MSE 45.32, MAE 421.7, SSIM
.9086, PSNR 27.10 with 14,955,201 parameters and 73.8 GMAC a call (OpenSTL's tables; for
10 -> 40 they have none, and the TAU paper's PSNR of 34.13 and 33.01 dB is of uint8
differences that wrap around). Their two tables disagree on the hardware, 4 GPUs with 4
clips each or 2 with 8; here the batch statistics are over all 16.

One call predicts 10 frames; longer horizons feed predictions back, in training too: 2
calls for 20 frames, 4 for 40. `--config.remat=full` saves their memory.

data.path: the folder with boxing/person01_boxing_d1_uncomp/image_0001.jpg and so on.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau


@recipe("tau/kth", t_out=("20", "40"))
def get_config(config: ConfigDict, t_out: str) -> None:
    """Variants: the frames to predict."""
    benchmark(config, "kth")
    config.data.t_out = int(t_out)
    tau(config, hid_s=64, hid_t=256, n_s=2, n_t=6, drop_path_rate=0.1)
    config.optim.update(name="adam", lr=1e-3)


miniature = get_config.miniature
