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
# # From a laptop to a TPU pod
#
# One config, any mesh: `data` splits the batch, `fsdp` the parameters, `space` the rows
# of the frames. Here with eight simulated devices, so that it runs anywhere; on a TPU
# or several GPUs leave the first line out.

# %%
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

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
import jax

print(jax.devices())

# %%
from stjax.config import load_config

config = load_config("tau/moving_digits:miniature")
config.data.batch = 8
config.mesh.update(data=2, fsdp=2, space=2)
config.train.update(steps=2, eval_every=2)

# %%
import stjax

results = stjax.train(config, "runs/mesh")
print(results["devices"], results["metrics"])

# %% [markdown]
# How an array lies on the mesh:

# %%
from stjax.sharding.mesh import batch_sharding, make_mesh

mesh = make_mesh(data=2, fsdp=2, space=2)
x = jax.device_put(
    jax.numpy.zeros((8, 2, 16, 16, 1)), batch_sharding(mesh, (8, 2, 16, 16, 1))
)
print(x.sharding, [s.data.shape for s in x.addressable_shards][:1])

# %% [markdown]
# Asking the TPU's own compiler, on a machine without a TPU: does it fit, how fast might
# a step be? It needs `pip install "stjax[aot]"` and a minute or more.

# %%
if importlib.util.find_spec("libtpu") and not FAST:
    command = "stjax compile --config=tau/moving_mnist --config.dtype=bfloat16"
    command += " --topology=v5e:2x4 --program=train"
    print(subprocess.run(command.split(), capture_output=True, text=True).stdout)
else:
    print("libtpu is not installed, or FAST is set: nothing was compiled for a TPU")
