"""TAU on moving digits: small enough for two CPU cores, and needs no download."""

from ml_collections import ConfigDict

from stjax.config import base_config
from stjax.errors import unknown


def get_config(variant: str | None = None) -> ConfigDict:
    """32x32 frames, 14x14 digits, 5 frames in, 5 out; minutes, not hours.

    The benchmark (64x64, 10 in, 10 out) is tau/moving_mnist.

    Args:
      variant: None; or "miniature", see `miniature`.
    """
    if variant not in (None, "miniature"):
        raise unknown("variant of tau/moving_digits", variant, ("miniature",))
    config = base_config()
    with config.unlocked():
        config.name = "tau/moving_digits"
        config.model = {
            "name": "tau",
            "hid_s": 8,
            "hid_t": 80,
            "n_s": 4,
            "n_t": 4,
            "mlp_ratio": 4.0,
            "drop_path_rate": 0.0,
        }
        config.data.update(
            source="moving_digits",
            t_in=5,
            t_out=5,
            batch=16,
            size=32,
            digit_size=14,
            num_digits=2,
            train_clips=10_000,
            eval_clips=500,
        )
        config.loss.update(name="mse_divergence", alpha=0.1, temperature=0.1)
        config.optim.update(name="adam", lr=8e-3, schedule="onecycle")
        config.train.update(steps=800, eval_every=400)
    return miniature(config) if variant else config


def miniature(config: ConfigDict | None = None) -> ConfigDict:
    """The same with a tiny model and little data, for tests."""
    config = get_config() if config is None else config
    with config.unlocked():
        config.name = "tau/moving_digits:miniature"
        config.model.update(hid_s=4, hid_t=8, n_s=2, n_t=2, mlp_ratio=2.0)
        config.data.update(
            t_in=2, t_out=2, batch=2, size=16, digit_size=7, train_clips=8, eval_clips=3
        )
        config.train.update(steps=2, eval_every=2)
        config.mesh.data = 1
    return config
