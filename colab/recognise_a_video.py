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
# # Recognise what a video shows
#
# Two recognisers that ship, a non-local I3D (CVPR 2018) and a UniFormer (ICLR 2022),
# trained on clips of a real digit that crosses real footage, forwards or backwards, and
# comes back from behind a gap as the same digit or another.

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

recogniser = stjax.load("uniformer-motion-clips")
print(recogniser.describe())

# %% [markdown]
# A few test clips, as .mp4 files: one folder a class.

# %%
from pathlib import Path

from stjax.data.motion_files import Counts, write_motion_clips

if not Path("clips").exists():
    write_motion_clips("clips", counts=Counts(train=8, validation=8, test=16))
files = sorted(Path("clips/test").rglob("*.mp4"))
print(len(files), "videos, such as", files[0])

# %%
for file in files[:: 4 if FAST else 1]:
    (name, probability), *_ = recogniser.top_k(recogniser.video(file), 1)
    print(f"{file.parent.name:20} -> {name:20} {probability:.2f}")

# %% [markdown]
# Embeddings, for search or a classifier of your own:

# %%
from stjax.media import read_clip

clip = read_clip(str(files[0])).frames
print(recogniser.features(clip[: recogniser.spec.t_in]).shape)

# %% [markdown]
# A long video, window by window, in constant memory. This one has several clips in a
# row.

# %%
import numpy as np
from IPython.display import display
from PIL import Image as Picture

from stjax import viz
from stjax.media import write_mp4

parts = [read_clip(str(f)).frames for f in files[:: 4 if FAST else 2]]
film = np.concatenate(parts)
write_mp4("film.mp4", film, fps=8)
timeline = recogniser.slide("film.mp4", window=1.0, stride=0.5)  # seconds
print(timeline.segments()[:5])
display(Picture.fromarray(viz.timeline(timeline)))

# %% [markdown]
# What the non-local blocks compare: the weights of one position over space and time.

# %%
model = stjax.load("nl-i3d-motion-clips")
found = viz.attention(model, clip[: model.spec.t_in])
display(Picture.fromarray(viz.draw_attention(found, clip[: model.spec.t_in])))
