"""TAU on your own data: arrays, videos, folders of images, NetCDF or Zarr.

``stjax train --config=tau/own_data --config.data.path=FILE_OR_FOLDER --workdir=DIR``
"""

from ml_collections import ConfigDict, config_dict

from stjax.config import base_config
from stjax.errors import unknown


def get_config(variant: str | None = None) -> ConfigDict:
    """A medium model, 10 frames in, 10 out; any size of frame.

    Args:
      variant: None; or "miniature", see `miniature`.
    """
    if variant not in (None, "miniature"):
        raise unknown("variant of tau/own_data", variant, ("miniature",))
    config = base_config()
    with config.unlocked():
        config.name = "tau/own_data"
        config.model = {
            "name": "tau",
            "hid_s": 32,
            "hid_t": 256,
            "n_s": 4,
            "n_t": 4,
            "drop_path_rate": 0.1,
            "pad_sides": True,
        }
        config.data.update(
            source="files",
            t_in=10,
            t_out=10,
            batch=8,
            stride=1,
            variable=config_dict.placeholder(str),
            size=config_dict.placeholder(tuple),
            channels=config_dict.placeholder(str),
            split_by=config_dict.placeholder(str),
            skip_unreadable=False,
        )
        config.loss.update(name="mse_divergence", alpha=0.1, temperature=0.1)
        config.optim.update(name="adam", lr=1e-3, schedule="onecycle", clip=1.0)
        config.train.update(epochs=50)
    return miniature(config) if variant else config


def miniature(config: ConfigDict | None = None) -> ConfigDict:
    """The same with a tiny model, short clips and two steps, for tests."""
    config = get_config() if config is None else config
    with config.unlocked():
        config.name = "tau/own_data:miniature"
        config.model.update(hid_s=4, hid_t=8, n_t=2, mlp_ratio=2.0)
        config.data.update(t_in=2, t_out=2, batch=2, stride=8)
        config.train.update(epochs=None, steps=2, eval_every=2)
        config.mesh.data = 1
    return config
