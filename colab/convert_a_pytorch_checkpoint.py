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
# # Use a PyTorch checkpoint
#
# Checkpoints of OpenSTL, PySlowFast, Caffe2, mmaction2, Sense-X and torchvision convert
# without PyTorch. Every key is used exactly once, or the error lists what is left.

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

# %% [markdown]
# A stand-in for your file, with OpenSTL's key names: a small TAU with random weights.
# For a real one leave this cell out.

# %%
import jax
import numpy as np
from safetensors.numpy import save_file

import stjax
from stjax.config import load_config

config = load_config("tau/moving_mnist:miniature")
fields = {k: v for k, v in config.model.to_dict().items() if k != "name"}
model = stjax.create_model("tau", **fields)
x = jax.random.uniform(jax.random.key(0), (1, config.data.t_in, 64, 64, 1))
variables = model.init(jax.random.key(1), x)
save_file(stjax.convert.to_torch(model, variables), "checkpoint.safetensors")

# %%
state_dict = stjax.convert.read_file("checkpoint.safetensors")  # .pth, .pyth, .pkl too
for key in list(state_dict)[:4]:
    print(key, state_dict[key].shape)

# %% [markdown]
# Either into the variables of a model,

# %%
converted = stjax.convert.from_torch(model, state_dict)
same = jax.tree.map(lambda a, b: bool((a == b).all()), variables, converted)
print("bit for bit:", all(jax.tree.leaves(same)))

# %% [markdown]
# or, with the config that it belongs to, into a predictor.

# %%
predictor = stjax.load("checkpoint.safetensors", config=config)
print(predictor.describe())
print(predictor(np.asarray(x)).shape)

# %% [markdown]
# A folder that lasts (the Hugging Face Hub's layout), and the way back to PyTorch's
# names:

# %%
stjax.export.to_folder(predictor, "converted", license="apache-2.0")
back = stjax.export.to_torch(stjax.load("converted"), "back.safetensors")
again = stjax.convert.read_file("back.safetensors")
print(
    "same keys and numbers:", all((again[k] == v).all() for k, v in state_dict.items())
)
