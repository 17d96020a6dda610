"""PredFormer as published, e.g. ``prediction/predformer:binary_ts,taxibj``.

Width 256, 8 heads of 32, AdamW with weight decay 1e-2 on everything, batch 16 (human:
8). MSE of the best variants: Moving MNIST 12.4 (quad_tsst and quad_stts, 2,000 epochs),
TaxiBJ .277 (binary_st, triplet_sts; 200 epochs), Human3.6M 110.9 (quad_tsst, 50),
WeatherBench t2m 1.100 (facts, 50). For triplets on TaxiBJ and WeatherBench the
official files say 3 layers; the published 6.3M and 4.0M parameters are of 2, taken
here.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe

# data set: side of a patch, hidden width over width, dropout, drop path, epochs,
# schedule, learning rate.
FIELDS = {
    "moving_mnist": (8, 4, 0.0, 0.0, 2_000, "onecycle", 1e-3),
    "taxibj": (4, 4, 0.1, 0.1, 200, "onecycle", 1e-3),
    "human": (8, 4, 0.1, 0.1, 50, "cosine", 1e-3),
    "weatherbench": (4, 2, 0.1, 0.25, 50, "cosine", 5e-4),
}
# variant: depth on each of them.
DEPTHS = {
    "quad_tsst": (6, 2, 3, 2),
    "quad_stts": (6, 2, 3, 2),
    "triplet_tst": (8, 2, 4, 2),
    "triplet_sts": (8, 2, 4, 2),
    "binary_ts": (12, 4, 6, 4),
    "binary_st": (12, 4, 6, 4),
    "facts": (12, 4, 6, 4),
    "facst": (12, 4, 6, 4),
    "full": (24, 8, 12, 8),
}


@recipe("prediction/predformer", variant=tuple(DEPTHS), dataset=tuple(FIELDS))
def get_config(config: ConfigDict, variant: str, dataset: str) -> None:
    """Variants: an order of space and time, a data set, or both."""
    benchmark(config, dataset)
    patch, scale, dropout, drop_path, epochs, schedule, lr = FIELDS[dataset]
    if dataset == "human":
        config.data.batch = 8
    config.model = {
        "name": "predformer",
        "variant": variant,
        "patch_size": patch,
        "dim": 256,
        "heads": 8,
        "dim_head": 32,
        "scale_dim": scale,
        "n_depth": DEPTHS[variant][list(FIELDS).index(dataset)],
        "dropout": dropout,
        "attn_dropout": dropout,
        "drop_path_rate": drop_path,
    }
    config.optim.update(
        name="adamw", lr=lr, schedule=schedule, warmup=None, weight_decay=1e-2
    )
    config.train.epochs = epochs


miniature = get_config.miniature
