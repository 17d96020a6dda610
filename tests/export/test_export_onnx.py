"""ONNX: the graph gives the function's numbers in ONNX Runtime."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

import stjax
from stjax.errors import UserError
from stjax.export import to_onnx
from stjax.export.branches import for_platform
from stjax.ops.conv import conv_nd

# I3D with non-local blocks is right too, but jax2onnx takes a minute for it.
NAMES = ("simvp_tau", "uniformer_tiny_std")


def primitives(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for value in eqn.params.values():
            if hasattr(value, "jaxpr"):
                yield from primitives(value.jaxpr)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_branches_are_decided(platform):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 4)).astype(np.float32)

    @jax.jit
    def function(x):
        def step(carry, _):
            y = conv_nd(carry, kernel, (1, 1), "SAME", feature_group_count=4)
            return jnp.tanh(y), y.mean()

        return lax.scan(jax.checkpoint(step), x, None, length=2)

    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 4))
    size = export.symbolic_shape("b")[0]
    shapes = [jax.ShapeDtypeStruct((n, 5, 5, 4), x.dtype) for n in (size, 2)]
    anyhow, decided = (for_platform(function, platform, s) for s in shapes)
    found = set(primitives(jax.make_jaxpr(anyhow)(shapes[0]).jaxpr))
    assert "scan" in found and not found & {"platform_index", "cond", "custom_vjp_call"}
    assert ("conv_general_dilated" in found) == (platform == "cuda")
    for a, b in zip(*map(jax.tree.leaves, (decided(x), function(x))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_same_numbers_in_onnx_runtime(original, name, tmp_path):
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    import onnx
    import onnxruntime

    _, path, config = original(name)
    function = stjax.load(path, config=config)
    path = to_onnx(function, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((3, *function.spec.input_shape), np.float32)
    for clips in (x, x[:1]):
        found = session.run(None, {"x": clips})[-1]
        np.testing.assert_allclose(found, function(clips), atol=1e-5)
    names = [value.name for value in session.get_outputs()]
    assert names == (["frames"] if "tau" in name else ["logits", "probabilities"])
    assert session.get_outputs()[0].shape[0] == "batch"
    stored = {p.key: json.loads(p.value) for p in onnx.load(path).metadata_props}
    assert stored["stjax.clips"] == json.loads(json.dumps(function.spec.to_dict()))


def test_without_the_extra(tau, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'stjax\[onnx\]'"):
        to_onnx(tau, tmp_path / "model.onnx")
