"""TAU on WeatherBench: ERA5 at 5.625 (32x64 cells) or 1.40625 degrees (128x256).

Published: 50 epochs, batch 16 on one GPU (1.40625: 4 GPUs with 4 clips each), cosine
to 1e-6, drop path 0.1. The official files of t2m, uv10 and tcc name no schedule; the
tables say cosine without warm-up, which is taken here.

============  =======  ==========  =====================  =======================
variant       clips    parameters  learning rate          published MSE, MAE
============  =======  ==========  =====================  =======================
t2m           12 > 12  12,219,553  5e-3                   1.162, .6707 K
uv10          12 > 12  12,219,874  5e-3
r             12 > 12  12,219,553  5e-3
tcc           12 > 12  12,219,553  5e-4
mv_4_4        4 > 4    9,548,652   5e-3, 5 warm-up epochs  99.428, 5.3282 (sums)
mv_4_28       4 > 28   9,548,652   5e-3, 5 warm-up epochs
t2m_1_40625   12 > 12  12,284,545  5e-3                   .8316, .5615 K
============  =======  ==========  =====================  =======================

"mv" is r, t, u, v on 150, 500 and 850 hPa, 1979-2015, six-hourly data of which
frames up to 36 hours apart are taken, as coded in the original. Each channel is
normalised over the training years; "official" normalises each split by itself.

data.path: the folder with 2m_temperature/2m_temperature_*.nc and so on.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe, tau

VARIANTS = ("t2m", "uv10", "r", "tcc", "mv_4_4", "mv_4_28", "t2m_1_40625")


@recipe("tau/weatherbench", variant=VARIANTS)
def get_config(config: ConfigDict, variant: str) -> None:
    """Variants: what is predicted, for the last one where."""
    benchmark(config, "weatherbench")
    data = config.data
    data.variables = ("u10", "v10") if variant == "uv10" else (variant.split("_")[0],)
    if variant.startswith("mv"):
        data.t_in, data.t_out = 4, int(variant.removeprefix("mv_4_"))
        data.update(variables=("r", "t", "u", "v"), levels=(150, 500, 850), hours=6)
        data.offsets = (-17, -11, -5, 0, *range(1, 6 * data.t_out, 6))
        data.train_years = (1979, 2015)
        config.optim.warmup = 5
    n_s = 4 if variant == "t2m_1_40625" else 2
    tau(config, hid_s=32, hid_t=256, n_s=n_s, n_t=8, drop_path_rate=0.1)
    config.optim.update(name="adam", lr=5e-4 if variant == "tcc" else 5e-3)


def miniature(variant: str | None = None) -> ConfigDict:
    """A tiny model on a miniature of the data set, for tests."""
    config = get_config.miniature(variant)
    if "offsets" in config.data:
        with config.unlocked():
            config.data.offsets = config.data.offsets[2 : 4 + config.data.t_out]
    return config
