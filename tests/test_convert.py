"""Conversion against the originals' own numbers (golden files)."""

import json
import pickle
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.convert import from_torch, read_file, to_torch
from stjax.errors import UserError

_SEEN = ("enc", "hid")  # modules whose results are compared


def state_dict(z, prefix="param/"):
    return {k[len(prefix) :]: z[k] for k in z.files if k.startswith(prefix)}


def channels_last(x):
    """(B, T, C, H, W) -> (B, T, H, W, C)."""
    return np.moveaxis(x, 2, -1)


def tiny_model(z):
    c = json.loads(str(z["config_json"]))
    return stjax.create_model(
        "simvp",
        translator=c["model_type"],
        hid_s=c["hid_S"],
        hid_t=c["hid_T"],
        n_s=c["N_S"],
        n_t=c["N_T"],
        drop_path_floor=0.0,
    )


def close(x, ref, rel):
    assert np.abs(np.asarray(x) - ref).max() <= rel * np.abs(ref).max()


@pytest.fixture(scope="module")
def tau(golden):
    z = golden("simvp_tau.npz")
    model = tiny_model(z)
    return z, model, from_torch(model, state_dict(z))


@pytest.mark.parametrize("name", ["tau", "tau_red", "tau_smallvar"])
def test_forward(golden, name):
    z = golden(f"simvp_{name}.npz")
    model = tiny_model(z)
    variables = from_torch(model, state_dict(z))

    @jax.jit
    def forward(variables, x):
        return model.apply(
            variables,
            x,
            capture_intermediates=lambda m, f: f == "__call__" and m.name in _SEEN,
            mutable=["intermediates"],
        )

    y, seen = forward(variables, channels_last(z["input"]))
    seen = seen["intermediates"]
    close(y, channels_last(z["output"]), 1e-5)
    latent, skip = seen["enc"]["__call__"][0]
    close(latent, np.moveaxis(z["inter/enc_latent"], 1, -1), 1e-5)
    close(skip, np.moveaxis(z["inter/enc_skip"], 1, -1), 1e-5)
    hid = z["inter/hid"]  # (B, T, hid_S, h, w)
    stacked = hid.reshape(hid.shape[0], -1, *hid.shape[3:])
    close(seen["hid"]["__call__"][0], np.moveaxis(stacked, 1, -1), 1e-5)


def test_round_trip(tau):
    z, model, variables = tau
    back = to_torch(model, variables)
    original = state_dict(z)
    assert back.keys() == original.keys()
    for key, value in original.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)


def test_recursion(golden):
    z = golden("tau_recursion.npz")
    model = tiny_model(z)
    variables = from_torch(model, state_dict(z))
    x = channels_last(z["input"])
    apply = jax.jit(model.apply, static_argnames=("frames", "train", "mutable"))
    close(apply(variables, x, frames=10), channels_last(z["output"]), 2e-5)
    close(apply(variables, x, frames=2), channels_last(z["output_aft2"]), 2e-5)
    y, new = apply(variables, x, frames=10, train=True, mutable=("batch_stats",))
    close(y, channels_last(z["train_output"]), 1e-4)
    after = to_torch(model, {**variables, **new})
    for key, value in state_dict(z, "train_buf_after/").items():
        if not key.endswith("num_batches_tracked"):
            close(after[key], value, 1e-4)


@pytest.mark.parametrize("name", ["tau_grad", "tau_red_grad"])
def test_gradients(golden, name):
    z = golden(f"{name}.npz")
    model = tiny_model(z)
    variables = from_torch(model, state_dict(z))
    x, target = channels_last(z["input"]), channels_last(z["target"])

    def loss(params, alpha, beta):
        y, new = model.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        mse = stjax.losses.mse(y, target).mean()
        reg = stjax.losses.differential_divergence(y, target).mean()
        return alpha * mse + beta * reg, (mse, reg, new)

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (total, (mse, reg, new)), grads = grad(variables["params"], 1.0, 0.1)
    for value, key in ((total, "loss"), (mse, "mse"), (reg, "reg")):
        np.testing.assert_allclose(value, z[key], rtol=1e-5)
    reg_grads = grad(variables["params"], 0.0, 1.0)[1]
    for prefix, tree in (("grad/", grads), ("grad_reg/", reg_grads)):
        found = to_torch(model, {"params": tree})
        for key, ref in state_dict(z, prefix).items():
            if prefix == "grad_reg/" and key == "dec.readout.bias":  # exactly zero
                assert np.abs(found[key]).max() < 1e-8
            else:
                close(found[key], ref, 1e-4)
    after = to_torch(model, {**variables, **new})
    for key, value in state_dict(z, "buf_after/").items():
        if not key.endswith("num_batches_tracked"):
            close(after[key], value, 1e-5)


def recipe_value(key, shape, seed, scales):
    """The rule by which recipe files give weights (their README)."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    shape = tuple(shape)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        v = rng.uniform(0.5, 1.5, shape)
    elif key.endswith("running_mean"):
        v = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1 and (key.endswith("weight") or "layer_scale" in key):
        v = 1 + 0.1 * rng.standard_normal(shape)
    elif key.endswith("bias"):
        v = 0.1 * rng.standard_normal(shape)
    else:
        v = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    for pattern, s in scales:
        if pattern in key:
            v = v * s
            break
    return v.astype(np.float32)


def test_full_size_moving_mnist(golden):
    z = golden("recipe_tau_mmnist.npz")
    scales = json.loads(str(z["scales_json"]))
    seed = int(z["seed"])
    state = {
        k: recipe_value(k, s, seed, scales) for k, s in json.loads(str(z["keys_json"]))
    }
    model = stjax.create_model("tau", hid_s=64, hid_t=512, n_s=4, n_t=8)
    variables = from_torch(model, state)
    count = sum(v.size for v in jax.tree.leaves(variables["params"]))
    assert count == int(z["num_parameters"]) == 44_656_001
    x = np.random.default_rng(seed).standard_normal(tuple(z["input_shape"]))
    y = jax.jit(model.apply)(variables, channels_last(x.astype(np.float32)))
    close(y, channels_last(z["output"]), 2e-5)


def test_wrappers_and_errors(tau, tmp_path):
    z, model, variables = tau
    state = state_dict(z)
    wrapped = from_torch(model, {f"model.{k}": v for k, v in state.items()})
    jax.tree.map(np.testing.assert_array_equal, wrapped, variables)
    bad = dict(state)
    bad["surplus.weight"] = np.zeros(3)
    bad["dec.readout.bias"] = np.zeros(5)
    del bad["enc.enc.1.conv.norm.bias"]
    with pytest.raises(UserError) as error:
        from_torch(model, bad)
    text = str(error.value)
    assert "missing: enc.enc.1.conv.norm.bias" in text
    assert "left over: surplus.weight" in text
    assert "wrong shape: dec.readout.bias (5,)" in text
    with pytest.raises(UserError, match="no such checkpoint"):
        read_file(tmp_path / "absent.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        read_file(tmp_path / "cut.pth")


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/stjax-evil", "w"))


def test_reader_runs_no_code(tmp_path):
    path = tmp_path / "evil.pkl"
    blobs = {"w": np.arange(3.0, dtype=np.float32)}
    path.write_bytes(pickle.dumps({"model": blobs, "hook": Evil()}))
    np.testing.assert_array_equal(read_file(path)["w"], [0, 1, 2])


@pytest.mark.parametrize("legacy", [False, True])
def test_reads_what_torch_writes(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "a.weight": base.t()[1:3],  # a view with an offset and strides
        "b": torch.nn.Parameter(base.half()),
        "c": base.to(torch.bfloat16),
        "n.num_batches_tracked": torch.tensor(7),
    }
    path = tmp_path / "x.ckpt"
    bundle = {"epoch": 3, "state_dict": state, "hyper_parameters": {"x": {1, 2}}}
    torch.save(bundle, path, _use_new_zipfile_serialization=not legacy)
    read = read_file(path)
    assert read.keys() == state.keys()
    for key, value in state.items():
        expected = value.detach().float().numpy()
        np.testing.assert_array_equal(np.asarray(read[key], np.float32), expected)


def test_safetensors(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.ones((2, 3), np.float32)}, tmp_path / "m.safetensors")
    assert read_file(tmp_path / "m.safetensors")["w"].shape == (2, 3)


def test_keys_of_the_published_checkpoint():
    """All 278 entries of OpenSTL's Moving MNIST checkpoint, names and shapes."""
    model = stjax.create_model("tau", hid_s=64, hid_t=512, n_s=4, n_t=8)
    clip = jnp.zeros((1, 10, 64, 64, 1))
    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), clip))
    tiny = jax.tree.map(lambda v: np.broadcast_to(np.float32(0), v.shape), abstract)
    ours = {k: tuple(v.shape) for k, v in to_torch(model, tiny).items()}
    lines = Path(__file__).parent.joinpath("golden/keys_openstl_tau_mmnist.txt")
    theirs = {}
    for line in lines.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, rest = line.split(" ", 1)
            shape = rest[rest.index("(") + 1 : rest.index(")")]
            theirs[name] = tuple(int(n) for n in shape.split(",") if n.strip())
    assert len(theirs) == 278
    assert ours == theirs
