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
# # Predict the next frames in a minute
#
# A small TAU (Temporal Attention Unit, CVPR 2023) that ships with `stjax`, its
# predictions as a picture and an animation, and a rollout of any length.

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
import stjax

predictor = stjax.load("tau-moving-digits")  # `stjax models --zoo` lists the others
print(predictor.describe())

# %% [markdown]
# Test clips: real MNIST digits that occur in no training clip, generated on the fly.

# %%
from stjax.training.inputs import open_split

test = open_split(predictor.run.config, "test")
clip = test.clip(3, None)
past, future = clip["input"], clip["target"]
print(past.shape, past.dtype, "->", future.shape)

# %%
prediction = predictor(past)[0]  # [T_out, H, W, 1]
print(
    "mean squared error, summed over a frame:",
    (((prediction - future) / 255.0) ** 2).sum((1, 2, 3)).mean(),
)

# %%
from IPython.display import Image, display
from PIL import Image as Picture

from stjax import viz

display(Picture.fromarray(viz.strip(past, prediction, future, value_range=(0, 255))))

# %%
viz.save_gif("digits.gif", past, prediction, future, value_range=(0, 255))
display(Image("digits.gif"))

# %% [markdown]
# Further than it was trained: block after block, each one a jitted call, in memory that
# does not grow with the number of frames.

# %%
far = predictor(past, frames=10 if FAST else 100)
print(far.shape)

# %% [markdown]
# Where the model looks: TAU's static attention (a large kernel) and dynamic attention
# (a factor for every channel).

# %%
found = viz.attention(predictor, past)
display(Picture.fromarray(viz.draw_attention(found, past)))

# %% [markdown]
# On your own clip: an array [T, H, W] or [T, H, W, C], uint8 in 0..255 or float in
# 0..1, of the frame size that `describe` tells. The next notebook trains on your own
# data.
