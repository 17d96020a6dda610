"""TAU on Moving MNIST as published: 64/512/8/4, 200 epochs, OneCycle 1e-3, batch 16."""

from ml_collections import ConfigDict

from stjax.config import base_config
from stjax.errors import unknown


def get_config(variant: str | None = None) -> ConfigDict:
    """Needs data.path: a folder with MNIST's training images and mnist_test_seq.npy.

    Args:
      variant: None; "official": select the model on the test set and train on all
        digits, as OpenSTL does; or "miniature", see `miniature`.
    """
    if variant not in (None, "official", "miniature"):
        raise unknown("variant of tau/moving_mnist", variant, ("official", "miniature"))
    config = base_config()
    with config.unlocked():
        config.name = "tau/moving_mnist" + (f":{variant}" if variant else "")
        config.model = {
            "name": "tau",
            "hid_s": 64,
            "hid_t": 512,
            "n_s": 4,
            "n_t": 8,
            "mlp_ratio": 8.0,
            "drop_path_rate": 0.0,
        }
        config.data.update(
            source="moving_mnist",
            t_in=10,
            t_out=10,
            batch=16,
            workers=4,
            holdout=0 if variant == "official" else 5_000,
        )
        config.loss.update(name="mse_divergence", alpha=0.1, temperature=0.1)
        config.optim.update(name="adam", lr=1e-3, schedule="onecycle")
        config.train.epochs = 200
        if variant == "official":
            config.train.select_on = "test"
    return miniature(config) if variant == "miniature" else config


def miniature(config: ConfigDict | None = None) -> ConfigDict:
    """A tiny model on generated digits (no files needed), for tests."""
    config = get_config() if config is None else config
    with config.unlocked():
        config.name = "tau/moving_mnist:miniature"
        config.model.update(hid_s=4, hid_t=8, n_t=2, mlp_ratio=2.0)
        config.data.source = "moving_digits"
        del config.data["holdout"]
        config.data.update(t_in=2, t_out=2, batch=2, workers=0, train_clips=8)
        config.data.update(eval_clips=3, size=16, digit_size=7)
        config.train.update(steps=2, eval_every=2)
        config.mesh.data = 1
    return config
