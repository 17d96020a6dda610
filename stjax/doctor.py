"""``stjax doctor``: does this installation work, and what could be added."""

import importlib.metadata
import importlib.util
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_PACKAGES = (
    "stjax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "ml-collections",
)

# extra -> (modules that tell whether it is there, what for).
EXTRAS = {
    "tpu": ("libtpu", "running on a Cloud TPU"),
    "aot": ("libtpu", "stjax compile: would it run on a TPU, and how"),
    "cuda": ("jax_cuda13_plugin", "running on an NVIDIA GPU"),
    "tfdata": ("tensorflow", "data.backend=tf.data, TFDS video sets"),
    "grids": ("xarray h5netcdf zarr h5py", "xarray in and out, netCDF and Zarr files"),
    "forecast": ("pysteps", "Lagrangian persistence beside a forecast"),
    "torch": ("torch", "comparing with PyTorch"),
    "export": ("flatbuffers", "programs of stjax export"),
    "onnx": ("jax2onnx onnxruntime", "stjax export --kind=onnx"),
    "hub": ("huggingface_hub", "models of the Hugging Face Hub"),
    "gcs": ("gcsfs", "workdirs on Google Cloud Storage"),
    "wandb": ("wandb", "scalars to Weights & Biases"),
    "mlflow": ("mlflow", "scalars to MLflow"),
    "profile": ("xprof", "looking at what stjax train --profile writes"),
    "test": (
        "pytest xdist ruff skimage scores tensorboard hickle jupytext",
        "running the tests",
    ),
}


def doctor() -> int:
    """Checks versions, devices, arithmetic, a training step, files, data and video.

    Exits with 1 if something that every installation needs does not work.
    """
    print(f"python {sys.version.split()[0]} on {platform.platform()}")
    print(", ".join(f"{p} {_version(p)}" for p in _PACKAGES))
    failed = sum(not _passes(check) for check in CHECKS)
    for extra, (modules, what) in EXTRAS.items():
        missing = [m for m in modules.split() if not importlib.util.find_spec(m)]
        if missing:
            print(
                f"  without  {what} ({', '.join(missing)}): pip install"
                f" 'stjax[{extra}]'"
            )
        else:
            print(f"  there    stjax[{extra}]: {what}")
    print(f"{failed} checks failed" if failed else "all checks passed")
    return int(failed > 0)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(missing)"


def _passes(check: Callable[[], str]) -> bool:
    name, start = check.__doc__, time.perf_counter()
    try:
        text = check()
    except Exception as error:  # Whatever it is, the user should see the other checks.
        line = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"  FAILED   {name} {line[:300]}", flush=True)
        return False
    took = time.perf_counter() - start
    print(f"  ok       {name} {text} ({took:.1f} s)", flush=True)
    return True


def _devices() -> str:
    """devices:"""
    import jax

    found = jax.devices()
    kinds = sorted({d.device_kind for d in found})
    text = f"{len(found)} {found[0].platform} ({', '.join(kinds)})"
    if jax.process_count() > 1:
        text += f", process {jax.process_index()} of {jax.process_count()}"
    return text


def _convolution() -> str:
    """convolution:"""
    import flax.linen as nn
    import jax
    import numpy as np

    from stjax.ops.conv import conv_nd

    # Depthwise box filter of a constant: the inside keeps its value.
    layer = nn.Conv(
        4, (3, 3), feature_group_count=4, use_bias=False, conv_general_dilated=conv_nd
    )
    kernel = np.full((3, 3, 1, 4), 1 / 9, np.float32)
    x = np.full((1, 8, 8, 4), 2.0, np.float32)
    y = jax.jit(layer.apply)({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(y[:, 1:-1, 1:-1], 2.0, rtol=1e-2)
    return "depthwise, compiled"


def _attention() -> str:
    """attention:"""
    import jax
    import numpy as np

    from stjax.ops.attention import attention

    # Keys that are all alike get equal weights: the mean of the values.
    rng = np.random.default_rng(0)
    q, v = rng.random((2, 1, 16, 2, 8), np.float32)
    k = np.ones_like(q)
    for impl in ("auto", "chunked"):
        y = jax.jit(attention, static_argnames="impl")(q, k, v, impl=impl)
        mean = np.broadcast_to(v.mean(1, keepdims=True), y.shape)
        np.testing.assert_allclose(y, mean, rtol=1e-2)
    return "all at once and in chunks"


def _step() -> str:
    """training step:"""
    import jax
    import numpy as np
    import optax

    from stjax.models.registry import create_model

    model = create_model("tau", hid_s=4, hid_t=8, n_s=2, n_t=2)
    x = np.random.default_rng(0).random((2, 4, 16, 16, 1), np.float32)
    # Constants instead of random values, which take long to compile.
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    rest = jax.tree.map(lambda s: np.full(s.shape, 0.1, s.dtype), dict(shapes))
    params = rest.pop("params")

    @jax.jit
    def step(params):
        def loss(params):
            y, _ = model.apply(
                {"params": params, **rest},
                x,
                train=True,
                rngs={"dropout": jax.random.key(1)},
                mutable=[*rest],
            )
            return ((y - x) ** 2).mean()

        value, grads = jax.value_and_grad(loss)(params)
        return value, optax.apply_updates(
            params, jax.tree.map(lambda g: -1e-2 * g, grads)
        )

    first, params = step(params)
    second, _ = step(params)
    if not second < first:
        raise ValueError(f"loss {first}, then {second}")
    return f"TAU, loss {first:.4f} -> {second:.4f}"


def _checkpoint() -> str:
    """checkpoint:"""
    import jax.numpy as jnp
    import numpy as np
    import orbax.checkpoint as ocp

    tree = {"a": jnp.arange(5.0), "b": {"c": jnp.ones((2, 3))}}
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as saver:
        saver.save(Path(folder) / "one", tree)
        saver.wait_until_finished()
        found = saver.restore(Path(folder) / "one", tree)
    np.testing.assert_array_equal(found["a"], tree["a"])
    return "saved and restored"


def _pipeline() -> str:
    """data:"""
    batch = _batch("grain")
    return f"Grain, a batch of moving digits {batch.shape}"


def _tfdata() -> str:
    """tf.data:"""
    import numpy as np

    if not importlib.util.find_spec("tensorflow"):
        return "without TensorFlow, which data.backend=tf.data needs; Grain does not"
    np.testing.assert_array_equal(_batch("tf.data"), _batch("grain"))
    return f"TensorFlow {_version('tensorflow')}, the same batch"


def _batch(backend: str):
    from stjax.data.pipeline import batches, make_dataset
    from stjax.data.sources import open_source

    source = open_source("moving_digits", "train")
    dataset = make_dataset(source, batch=2, train=True)
    with batches(dataset, backend=backend) as iterator:
        return next(iterator)["input"]


def _video() -> str:
    """video:"""
    import numpy as np

    from stjax import media

    frames = np.zeros((4, 16, 16, 3), np.uint8)
    frames[2:] = 255
    with tempfile.TemporaryDirectory() as folder:
        media.write_mp4(f"{folder}/clip.mp4", frames)
        found = media.read_clip(f"{folder}/clip.mp4").frames
    error = np.abs(found.astype(int) - frames).max()
    if found.shape != frames.shape or error > 8:
        raise ValueError(f"decoded {found.shape}, largest error {error}")
    return "H.264 encoded and decoded"


def _pictures() -> str:
    """pictures:"""
    import numpy as np

    from stjax import viz

    clip = np.linspace(0, 1, 3 * 64).reshape(3, 8, 8, 1)
    return "x".join(map(str, viz.strip(clip, clip, clip).shape))


CHECKS = (
    _devices,
    _convolution,
    _attention,
    _step,
    _checkpoint,
    _pipeline,
    _tfdata,
    _video,
    _pictures,
)
