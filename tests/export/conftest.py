"""Small models with the originals' weights, and the configs that they belong to."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import stjax
from stjax.config import load_config

# Config to start from, its model, its data.
_SMALL = {
    "simvp_tau": (
        "tau/taxibj",
        {
            "name": "tau",
            "hid_s": 8,
            "hid_t": 32,
            "n_s": 2,
            "n_t": 3,
            "drop_path_floor": 0.0,
        },
        {},
    ),
    "i3d_r50_w4_nl_softmax": (
        "nonlocal/slowfast",
        {
            "name": "i3d_r50",
            "non_local": 5,
            "width": 4,
            "num_classes": 7,
            "window": 2,
        },
        {"t_in": 8, "test_size": 32},
    ),
    "uniformer_tiny_std": (
        "uniformer/kinetics400",
        {
            "name": "uniformer_s",
            "depth": (1, 1, 2, 1),
            "embed_dim": (8, 16, 32, 64),
            "head_dim": 16,
            "num_classes": 7,
            "std": True,
        },
        {"t_in": 8, "test_size": 32},
    ),
}


@pytest.fixture(scope="session")
def original(golden, tmp_path_factory):
    """``original(name) -> (state dict, file of it, config)`` of a golden file."""
    folder = tmp_path_factory.mktemp("originals")

    def get(name):
        z = golden(f"{name}.npz")
        state = {k[6:]: z[k] for k in z.files if k.startswith("param/")}
        path = folder / f"{name}.safetensors"
        save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path)
        base, model, data = _SMALL[name]
        config = load_config(base)
        with config.unlocked():
            config.model = model
            config.data.update(data)
        return state, path, config.lock()

    return get


@pytest.fixture(scope="session")
def tau(original):
    """A predictor of 32 x 32 pixels and 2 channels, 4 frames to 4."""
    _, path, config = original("simvp_tau")
    return stjax.load(path, config=config)
