"""SimVP with each translator of OpenSTL, e.g. ``prediction/simvp:vit,taxibj``.

Learning rates, depths and drop paths are those of OpenSTL's configs; batch 16 (for KTH
and a few on KITTI spread over 2 to 4 GPUs there). Published MSE on Moving MNIST after
200 epochs: moga 25.57, van 26.10, gsta 26.69, convnext 26.94, mlpmixer 29.52, hornet
29.64, swin 29.70, uniformer 30.38, poolformer 31.79, convmixer 32.09, incepu 32.15
(SimVP v1), vit 35.15; tau, which has configs of its own, 24.60. After 2,000
(--config.train.epochs=2000) gsta, SimVP v2, has 15.05. OpenSTL's config of incepu on
KTH has 4 blocks, its published row (12.2M parameters) 6, taken here. "non_local" is not
in OpenSTL.
"""

from ml_collections import ConfigDict

from stjax.recipes.prediction import benchmark, recipe

# data set: hid_s, hid_t, n_s, n_t, drop path.
WIDTHS = {
    "moving_mnist": (64, 512, 4, 8, 0.0),
    "taxibj": (32, 256, 2, 8, 0.1),
    "kth": (64, 256, 2, 6, 0.1),
    "kitti_caltech": (64, 256, 2, 6, 0.1),
}
# translator: learning rate on each of them.
RATES = {
    "gsta": (1e-3, 5e-4, 1e-3, 5e-3),
    "convmixer": (1e-2, 1e-3, 1e-2, 1e-2),
    "convnext": (1e-2, 1e-3, 5e-3, 5e-3),
    "hornet": (1e-3, 1e-3, 1e-3, 1e-3),
    "incepu": (1e-3, 1e-3, 1e-3, 5e-3),
    "mlpmixer": (1e-3, 1e-2, 1e-3, 5e-4),
    "moga": (1e-3, 1e-3, 5e-3, 5e-3),
    "non_local": (1e-3, 5e-4, 1e-3, 1e-3),
    "poolformer": (1e-3, 5e-4, 5e-4, 1e-3),
    "swin": (1e-3, 5e-4, 5e-4, 5e-4),
    "uniformer": (5e-4, 5e-4, 1e-3, 1e-3),
    "van": (1e-3, 1e-3, 1e-3, 1e-2),
    "vit": (5e-4, 5e-4, 1.3e-3, 1.25e-4),
}
SHALLOW = {  # 4 blocks instead of 6
    "kth": ("uniformer", "vit"),
    "kitti_caltech": ("incepu", "uniformer", "vit"),
}
DROPPED = {  # drop path 0.2
    "kth": ("gsta", "hornet", "moga", "van"),
    "kitti_caltech": ("gsta", "uniformer"),
}


@recipe("prediction/simvp", translator=tuple(RATES), dataset=tuple(WIDTHS))
def get_config(config: ConfigDict, translator: str, dataset: str) -> None:
    """Variants: a translator, a data set, or both."""
    benchmark(config, dataset)
    hid_s, hid_t, n_s, n_t, drop_path = WIDTHS[dataset]
    shallow = translator in SHALLOW.get(dataset, ())
    dropped = translator in DROPPED.get(dataset, ())
    config.model = {
        "name": "simvp",
        "translator": translator,
        "hid_s": hid_s,
        "hid_t": hid_t,
        "n_s": n_s,
        "n_t": 4 if shallow else n_t,
        "mlp_ratio": 8.0,
        "drop_path_rate": 0.2 if dropped else drop_path,
    }
    config.optim.lr = RATES[translator][list(WIDTHS).index(dataset)]


miniature = get_config.miniature
