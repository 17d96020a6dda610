# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train TAU on your own arrays
#
# One path is enough: a `.npy` or `.npz` of frames, a folder of videos or images, NetCDF
# or Zarr. Here the array is made up: waves that travel over a grid.

# %%
# Installs stjax where it is missing; works on CPU, GPU and TPU runtimes.
URL, TAG = "https://github.com/OWNER/stjax", "main"
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("stjax") is None:
    what = f"stjax[colab] @ git+{URL}@{TAG}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", what], check=True)
FAST = bool(os.environ.get("STJAX_FAST"))  # True: seconds instead of minutes

# %%
import numpy as np

frames, side = (160, 16) if FAST else (2_000, 32)
t, y, x = np.meshgrid(np.arange(frames), *[np.linspace(0, 6, side)] * 2, indexing="ij")
waves = 0.5 + 0.25 * np.sin(x + 0.3 * t) + 0.25 * np.cos(y - 0.2 * t)
np.save("waves.npy", waves.astype(np.float32))  # yours: np.load, or just its path

# %% [markdown]
# A config is a Python object with named fields; an unknown field is an error that names
# the nearest.

# %%
from stjax.config import load_config

config = load_config("tau/own_data:miniature" if FAST else "tau/own_data")
config.data.path = "waves.npy"
if not FAST:
    config.data.update(t_in=5, t_out=5)
    config.model.update(hid_s=8, hid_t=64, n_t=3)
    config.train.update(steps=300, epochs=None, eval_every=100)
print(config.model, config.data.t_in, "frames in,", config.data.t_out, "out")

# %%
import stjax

results = stjax.train(config, "runs/waves")
for name, row in {"TAU": results["metrics"], **results["baselines"]}.items():
    print(f"{name:22} mse {row['mse']:.4f}")

# %% [markdown]
# The same call again goes on from the last checkpoint, or, when it is finished, only
# measures. The workdir holds everything: config, metrics, checkpoints, pictures.

# %%
from IPython.display import HTML, Image, display

display(Image("runs/waves/pictures/test.png"))

# %%
from stjax import report

report.write("runs/waves", "waves.html")  # one file that needs nothing else
display(HTML('<a href="waves.html">waves.html</a>'))

# %%
predictor = stjax.load("runs/waves")
past = np.load("waves.npy")[: predictor.spec.t_in]
print(predictor(past, frames=12).shape)
