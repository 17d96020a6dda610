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
# # Search how space and time should be fused
#
# One template network holds every strategy; gates learn which units are worth having
# (Variational DropPath, CVPR 2020). Then strategies are ranked without training them.
# The task has a known answer: with n temporal layers no network can be right on more
# than 50, 66.7, 83.3 and, from 3 on, 100 % of the clips.

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
from stjax.config import load_config

config = load_config("fusion/order_ladder:miniature" if FAST else "fusion/order_ladder")
space = stjax.search.create_space(config)
print(space.size, "strategies of", len(space.slots), "layers:", space.slots[0].choices)

# %% [markdown]
# Training the template takes two or three minutes on two CPU cores.

# %%
results = stjax.search.fit(config, "runs/ladder")
print(results["metrics"])

# %%
ranking = stjax.search.rank(
    "runs/ladder",
    samples=4 if FAST else 40,
    uniform=2 if FAST else 20,
    batches=2 if FAST else 20,
)
for row in ranking["rows"][:5]:
    print(row["strategy"], row["metrics"], f"{row['macs']:,} multiply-adds")

# %%
posterior = stjax.search.Posterior.from_workdir("runs/ladder")
for slot, units in posterior.marginals().items():
    print(slot, {unit: round(float(p), 3) for unit, p in units.items()})

# %%
from IPython.display import Image, display

found = stjax.search.show("runs/ladder")
for picture in ("marginals.png", "pareto.png"):
    display(Image(f"runs/ladder/search/{picture}"))

# %% [markdown]
# The chosen strategy becomes an ordinary, smaller network: it computes what the
# template does with the other paths off.

# %%
chosen = stjax.search.export(
    "runs/ladder", "pick", "runs/chosen", batches=2 if FAST else 20
)
print(chosen["units"], f"{chosen['params']:,} parameters")
recogniser = stjax.load("runs/chosen")
print(recogniser.describe())
