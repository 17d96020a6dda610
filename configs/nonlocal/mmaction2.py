"""I3D-50 32x2 on Kinetics-400 as mmaction2 trains it.

Top-1 / top-5, 10 clips x 3 crops of 256: none 73.47/91.27, dot_product 74.80/92.07,
embedded_gaussian 74.73/91.80 (59.3 GMAC, 35.4M parameters), gaussian 73.97/91.33 (56.5
GMAC, 31.7M). Unlike elsewhere the projections come before the pooling, as the paper
says, and the softmax is not scaled.

data.path: a folder with train.csv and val.csv (lines ``path label``). train.init_from:
a ResNet-50 for ImageNet (torchvision's, a .pth file, is inflated).
"""

from ml_collections import ConfigDict

from stjax.recipes.recognition import dataset, recipe, sampling, training


@recipe(
    "nonlocal/mmaction2",
    pairwise=("embedded_gaussian", "dot_product", "gaussian", "none"),
)
def get_config(config: ConfigDict, pairwise: str) -> None:
    """Variants: the pairwise function of 5 blocks, or none.

    SGD with momentum, 100 epochs of 64 clips a step (8 GPUs x 8), 0.01, a tenth of it
    after 40 and again after 80; gradients are cut off at a norm of 40.
    """
    blocks = {"non_local": 5, "pairwise": pairwise} if pairwise != "none" else {}
    config.model = {
        "name": "i3d_r50",
        "stem": "mmaction2",
        "pool_first": False,
        "use_scale": False,
        "window": 8,  # the whole map of 256 pixels: one position
        **blocks,
    }
    dataset(config, "kinetics400")
    config.data.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    sampling(config, 32, 2, "strided", corners=(1.0, 0.8))
    training(
        config,
        batch=64,
        name="sgd",
        lr=0.01,
        momentum=0.9,
        weight_decay=1e-4,
        clip=40.0,
        schedule="steps",
        milestones=(0, 40, 80),
        factors=(1.0, 0.1, 0.01),
    )
    config.train.update(epochs=100, eval_every=36_000, save_every=2_000, bn_group=8)


miniature = get_config.miniature
