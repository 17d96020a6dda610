"""Programs: what they return, where they run, and what is said when they do not."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import stjax
from stjax.data.base import ClipSpec, LabelSpec
from stjax.errors import UserError
from stjax.export import program, to_folder, to_program
from stjax.ops.attention import attention
from stjax.prediction import Predictor
from stjax.recognition import Recogniser


class Trend(nn.Module):
    """Adds a learned step a frame to the last frame."""

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        step = self.param("step", nn.initializers.constant(0.1), (x.shape[-1],))
        times = jnp.arange(1, frames + 1)[:, None, None, None]
        return x[:, -1:] + step * times


class Colour(nn.Module):
    """Logits are a matrix times the mean colour."""

    @nn.compact
    def __call__(self, x, *, train=False):
        kernel = self.param("kernel", lambda *_: jnp.eye(3) * 2 + 0.5)
        return x.mean((1, 2, 3)) @ kernel


class Attentive(nn.Module):
    """1,024 positions among themselves: on a TPU a kernel, see `stjax.ops.splash`."""

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        q = nn.Dense(32)(x.reshape(x.shape[0], -1, 1, x.shape[-1]))
        y = nn.Dense(x.shape[-1])(attention(q, q, q))
        return y.reshape(x.shape[0], -1, *x.shape[2:])[:, :frames]


PIXELS = ClipSpec(3, 2, 4, 6)
KELVIN = ClipSpec(
    2, 2, 4, 4, ("t",), dtype="float32", offset=(280.0,), scale=(10.0,), units="K"
)
LABELS = LabelSpec(2, 4, 4, ("left", "right", "up"), aggregate="logits")


def predictor(spec=PIXELS, **fields):
    x = jnp.zeros((1, *spec.input_shape))
    model = Trend()
    return Predictor(model, model.init(jax.random.key(0), x, frames=1), spec, **fields)


def recogniser(**fields):
    spec = LabelSpec(**{**LABELS.to_dict(), **fields})
    model = Colour()
    x = jnp.zeros((1, *spec.input_shape))
    return Recogniser(model, model.init(jax.random.key(0), x), spec)


def clips(spec, count=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *spec.input_shape), np.uint8)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return to_program(predictor(), tmp_path_factory.mktemp("programs") / "p.npz")


def test_pictures_in_any_batch_and_dtype(pixels):
    function, loaded = predictor(), stjax.load(pixels)
    for x in (clips(PIXELS), clips(PIXELS, 5) / 255, clips(PIXELS)[0]):
        np.testing.assert_array_equal(loaded(x), function(x))
    np.testing.assert_array_equal(loaded(x, frames=1), function(x, frames=1))
    assert "Trend with 1 parameters, program" in loaded.describe()
    with pytest.raises(UserError, match="predicts 2 frames, not 3; export it with"):
        loaded(x, frames=3)
    with pytest.raises(UserError, match="do not fit this model, trained on 4x6"):
        loaded(np.zeros((3, 4, 4, 1)))
    with pytest.raises(UserError, match="is an exported program; export the model"):
        to_program(loaded, "again.npz")


def test_metadata(pixels):
    metadata = json.loads(np.load(pixels)["metadata"].tobytes())
    assert metadata["inputs"] == {
        "uint8": ["batch", 3, 4, 6, 1],
        "float32": ["batch", 3, 4, 6, 1],
    }
    assert metadata["output"] == {"shape": ["batch", 2, 4, 6, 1], "dtype": "float32"}
    assert metadata["ranges"] == {"uint8": "0 to 255", "float32": "0 to 1"}
    assert metadata["platforms"] == ["cpu", "cuda", "tpu"]
    assert metadata["versions"]["jax"] == jax.__version__


def test_frames_and_batch(tmp_path):
    path = to_program(predictor(), tmp_path / "long.npz", frames=7, batch=2)
    loaded = stjax.load(path)
    x = clips(PIXELS, 2)
    np.testing.assert_array_equal(loaded(x, frames=7), predictor()(x, frames=7))


def test_units_and_missing_values(tmp_path):
    function = predictor(KELVIN, nan="mask")
    loaded = stjax.load(to_program(function, tmp_path / "k.npz"))
    x = np.float32(clips(KELVIN)) + 200
    x[0, 1, 2] = np.nan
    np.testing.assert_array_equal(loaded(x), function(x))
    with np.load(tmp_path / "k.npz") as stored:
        assert "program/uint8" not in stored.files
        metadata = json.loads(stored["metadata"].tobytes())
        exported = jax.export.deserialize(bytearray(stored["program/float32"]))
        y = exported.call({k: stored[k] for k in metadata["weights"]}, x)
    np.testing.assert_array_equal(y, function(x))  # NaN are dealt with inside
    assert metadata["ranges"] == {"float32": "K"}


@pytest.mark.parametrize("multi_label", [False, True])
def test_recognisers(multi_label, tmp_path):
    function = recogniser(multi_label=multi_label)
    path = to_program(function, tmp_path / "r.npz")
    loaded = stjax.load(path)
    x = clips(LABELS)
    np.testing.assert_allclose(loaded(x), function(x), rtol=1e-6)
    np.testing.assert_allclose(loaded(x / 255), function(x / 255), rtol=2e-6)
    np.testing.assert_allclose(loaded.of_views(x), function.of_views(x), rtol=1e-6)
    assert loaded.top_k(loaded(x)[0], 1) == function.top_k(function(x)[0], 1)
    with np.load(path) as stored:
        exported = jax.export.deserialize(bytearray(stored["program/uint8"]))
        found = exported.call({"params.kernel": stored["params.kernel"]}, x)
        metadata = json.loads(stored["metadata"].tobytes())
    np.testing.assert_allclose(found["probabilities"], function(x), rtol=1e-6)
    assert metadata["classes"] == ["left", "right", "up"]
    assert sorted(metadata["output"]) == ["logits", "probabilities"]


BARE = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

KNOWN = {"jax", "jaxlib", "numpy", "flatbuffers", "ml_dtypes", "scipy", "opt_einsum"}
KNOWN |= sys.stdlib_module_names


class Installed:
    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        if top in KNOWN or top.startswith("_sysconfigdata"):
            return PathFinder.find_spec(name, path, target)


sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Installed]

import json

import jax
import numpy as np
from jax import export

stored = np.load(sys.argv[1])
metadata = json.loads(stored["metadata"].tobytes())
weights = jax.device_put({name: stored[name] for name in metadata["weights"]})
program = export.deserialize(bytearray(stored["program/uint8"]))
predict = jax.jit(program.call)
np.save(sys.argv[3], predict(weights, np.load(sys.argv[2])))
assert "stjax" not in sys.modules and "flax" not in sys.modules
"""


def test_a_process_with_jax_alone(tau, tmp_path):
    to_program(tau, tmp_path / "tau.npz")
    x = clips(tau.spec, 3).astype(np.float32) / 255  # of TaxiBJ, no pictures
    x = x if tau.spec.dtype == "float32" else clips(tau.spec, 3)
    np.save(tmp_path / "x.npy", x)
    code = BARE.replace("program/uint8", f"program/{x.dtype}")
    files = [str(tmp_path / name) for name in ("tau.npz", "x.npy", "y.npy")]
    done = subprocess.run(
        [sys.executable, "-c", code, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    y = tau(x)
    assert np.std(y) > 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["i3d_r50_w4_nl_softmax", "uniformer_tiny_std"])
def test_networks_lower_for_all_platforms(original, name, tmp_path):
    _, path, config = original(name)
    function = stjax.load(path, config=config)
    path = to_program(function, tmp_path / "n.npz")
    stored, views = np.load(path), stjax.load(path).views
    assert vars(views) == vars(function.views)
    exported = jax.export.deserialize(bytearray(stored["program/uint8"]))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    shapes = {a.shape for a in exported.out_avals}
    assert [str(s) for s in shapes] == ["(batch, 7)"]


def test_kernels(tmp_path):
    """For a TPU alone there is one; among other platforms it is not in the way."""
    spec = ClipSpec(4, 4, 16, 16)
    model = Attentive()
    x = jnp.zeros((1, *spec.input_shape))
    function = Predictor(model, model.init(jax.random.key(0), x), spec)
    texts = {}
    for platforms in (("tpu",), program.PLATFORMS):
        path = to_program(function, tmp_path / "a.npz", platforms=platforms)
        stored = np.load(path)["program/uint8"]
        texts[platforms] = jax.export.deserialize(bytearray(stored)).mlir_module()
    assert ["tpu_custom_call" in text for text in texts.values()] == [True, False]
    loaded, x = stjax.load(path), clips(spec)
    np.testing.assert_allclose(loaded(x), function(x), rtol=1e-5, atol=1e-3)


def changed(path, to, **changes):
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    metadata = json.loads(arrays["metadata"].tobytes())
    arrays |= changes.pop("arrays", {})
    text = json.dumps(metadata | changes).encode()
    arrays["metadata"] = np.frombuffer(text, np.uint8)
    np.savez(to, **arrays)
    return to


def test_damage(pixels, tmp_path):
    to = tmp_path / "other.npz"
    for size in (0, 100, pixels.stat().length - 300):
        to.write_bytes(pixels.read_bytes()[:size])
        with pytest.raises(UserError, match="is cut off, damaged or no .npz"):
            stjax.load(to)
    np.savez(to, x=np.zeros(3))
    with pytest.raises(UserError, match="is no program that stjax exported"):
        stjax.load(to)
    step = {"params.step": np.float32([0.2])}
    with pytest.raises(UserError, match="does not have its checksum"):
        stjax.load(changed(pixels, to, arrays=step))
    with pytest.raises(UserError, match="has format 9, this stjax reads up to 1"):
        stjax.load(changed(pixels, to, format_version=9))
    with np.load(pixels) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "metadata"}
    arrays["program/uint8"] = arrays["program/uint8"][:100]
    own = program.checksum(arrays)
    with pytest.raises(UserError, match="was written with JAX .* cannot read it"):
        stjax.load(changed(pixels, to, arrays=arrays, sha256=own))


def test_what_is_wrong(tmp_path):
    path = to_program(predictor(), tmp_path / "tpu.npz", platforms=("tpu",))
    with pytest.raises(UserError, match="runs on tpu, not on cpu; export it with"):
        stjax.load(path)
    with pytest.raises(UserError, match="unknown platform 'gpu'; there are: cpu, cuda"):
        to_program(predictor(), path, platforms=("gpu",))
    with pytest.raises(UserError, match="frames=0: expected at least 1"):
        to_program(predictor(), path, frames=0)
    with pytest.raises(UserError, match="a program is an .npz file"):
        to_program(predictor(), tmp_path / "program.bin")
    with pytest.raises(UserError, match="made from parts, without a config"):
        to_folder(predictor(), tmp_path / "folder")
    with pytest.raises(UserError, match="leave out config='tau/kth'"):
        stjax.load(path, config="tau/kth")
