"""Weights for networks with fusion units: the original's keys, images' networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.convert import class_count, from_torch, to_torch
from stjax.convert.inflate import inflate
from stjax.errors import UserError

SMALL = {"width": 8, "growth": 4, "blocks": (1, 1), "num_classes": 3}
RNG = np.random.default_rng(0)


def network(units="all", **fields):
    return stjax.create_model("densenet121_3d", units=units, **SMALL | fields)


def array(*shape):
    return RNG.uniform(0.5, 1.5, shape).astype("f4")


def norm(name, channels):
    leaves = ("weight", "bias", "running_mean", "running_var")
    found = {f"{name}.{leaf}": array(channels) for leaf in leaves}
    return found | {f"{name}.num_batches_tracked": np.int64(0)}


def original(classes=3):
    """The state dict of the original's network with S+ST, by its documented keys."""
    state = {"features.conv0.weight": array(8, 3, 5, 7, 7)}
    state |= norm("features.norm0", 8) | norm("features.norm5", 10)
    for b, channels in ((1, 8), (2, 6)):
        layer = f"features.denseblock{b}.denselayer1"
        for path, taps in (("bottleneck", 1), ("temporal", 3)):
            state |= norm(f"{layer}.{path}.norm1", channels)
            state[f"{layer}.{path}.conv1.weight"] = array(16, channels, taps, 1, 1)
        state |= norm(f"{layer}.spatial.norm2", 16)
        state[f"{layer}.spatial.conv2.weight"] = array(4, 16, 1, 3, 3)
    for path, taps in (("original", 1), ("temporal", 3)):
        state |= norm(f"features.transition1.{path}.norm", 12)
        state[f"features.transition1.{path}.conv.weight"] = array(6, 12, taps, 1, 1)
    state["classifier.weight"], state["classifier.bias"] = array(classes, 10), array(3)
    return state


def image(old=False):
    """That of torchvision's DenseNet of the same widths; its files have older keys."""
    state = {"features.conv0.weight": array(8, 3, 7, 7)}
    state |= norm("features.norm0", 8) | norm("features.norm5", 10)
    dot = "." if old else ""
    for b, channels in ((1, 8), (2, 6)):
        layer = f"features.denseblock{b}.denselayer1."
        state |= norm(f"{layer}norm{dot}1", channels) | norm(f"{layer}norm{dot}2", 16)
        state[f"{layer}conv{dot}1.weight"] = array(16, channels, 1, 1)
        state[f"{layer}conv{dot}2.weight"] = array(4, 16, 3, 3)
    state |= norm("features.transition1.norm", 12)
    state["features.transition1.conv.weight"] = array(6, 12, 1, 1)
    return state | {"classifier.weight": array(5, 10), "classifier.bias": array(5)}


def test_original_there_and_back():
    state, model = original(), network()
    variables = from_torch(model, {f"module.{k}": v for k, v in state.items()})
    back = to_torch(model, variables)
    assert back.keys() == state.keys() and class_count(model, state) == 3
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_number_of_keys():
    """1093 keys of DenseNet-121: kernels, norms of five entries, the classifier."""

    def keys(layers, transitions):
        norms = 3 * layers + 2 * transitions + 2
        return (norms - 1) + 5 * norms + 2

    assert len(original()) == keys(2, 1)
    assert keys(6 + 12 + 24 + 16, 3) == 1093


def test_gates_of_the_original_are_left_out():
    state = original()
    layer = "features.denseblock1.denselayer1.temporal.conv1"
    gated = {f"{layer}.p_logit": array(1), "classifier.p_logit": array(1)}
    gated[f"{layer}.unif_noise_variable"] = array(1, 1, 1, 1, 1)
    jax.tree.map(
        np.testing.assert_array_equal,
        from_torch(network(), state | gated),
        from_torch(network(), state),
    )
    with pytest.raises(UserError, match="left over"):
        from_torch(network("S"), state)


@pytest.mark.parametrize("old", [False, True])
def test_inflation_of_densenet(old):
    state = image(old)
    variables = inflate(network(), state, partial=True)
    params, stats = (
        variables["params"]["features"],
        variables["batch_stats"]["features"],
    )
    assert "classifier" not in variables["params"]  # 5 classes, not 3

    def kernel(key):
        return state[key].transpose(2, 3, 1, 0)

    stem = kernel("features.conv0.weight")
    for tap in params["conv0"]["kernel"]:
        np.testing.assert_allclose(tap, stem / 5, 1e-6)
    dot = "." if old else ""
    name = "features.denseblock2.denselayer1."
    layer = params["denseblock2"]["denselayer1"]
    one = kernel(f"{name}conv{dot}1.weight")
    np.testing.assert_array_equal(layer["bottleneck"]["conv1"]["kernel"][0], one)
    assert layer["temporal"]["conv1"]["kernel"].shape == (3, 1, 1, 6, 16)
    for tap in layer["temporal"]["conv1"]["kernel"]:
        np.testing.assert_allclose(tap, one / 3, 1e-6)
    two = kernel(f"{name}conv{dot}2.weight")
    np.testing.assert_array_equal(layer["spatial"]["conv2"]["kernel"][0], two)
    for path in ("bottleneck", "temporal"):
        there = stats["denseblock2"]["denselayer1"][path]["norm1"]["var"]
        np.testing.assert_array_equal(there, state[f"{name}norm{dot}1.running_var"])
    for path in ("original", "temporal"):
        there = params["transition1"][path]["norm"]["scale"]
        np.testing.assert_array_equal(there, state["features.transition1.norm.weight"])


@pytest.mark.parametrize("units", ["S", "ST", ("ST", "S", "S+ST")])
def test_inflation_of_a_strategy(units):
    """Whatever paths there are take the kernels; none is missing or left over."""
    model = network(units, num_classes=5)
    variables = inflate(model, image())
    x = jnp.zeros((1, 2, 32, 32, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)


def test_inflation_of_resnext():
    """torchvision's keys of a ResNeXt of one block, 2 groups of 4 channels."""
    state = {"conv1.weight": array(8, 3, 7, 7)} | norm("bn1", 8)
    layer = "layer1.0"
    for name, shape in (
        ("conv1", (8, 8, 1, 1)),
        ("conv2", (8, 4, 3, 3)),
        ("conv3", (32, 8, 1, 1)),
    ):
        state[f"{layer}.{name}.weight"] = array(*shape)
        state |= norm(f"{layer}.{name.replace('conv', 'bn')}", shape[0])
    state |= {f"{layer}.downsample.0.weight": array(32, 8, 1, 1)}
    state |= norm(f"{layer}.downsample.1", 32)
    state |= {"fc.weight": array(5, 32), "fc.bias": array(5)}
    fields = {"blocks": (1,), "width": 8, "groups": 2, "group_width": 32}
    model = stjax.create_model("fusion_resnext50", num_classes=5, **fields)
    params = inflate(model, state)["params"]
    one = state[f"{layer}.conv1.weight"].transpose(2, 3, 1, 0)
    block = params["layer1_0"]
    np.testing.assert_array_equal(block["conv1"]["kernel"][0], one)
    for tap in block["conv1_t"]["kernel"]:
        np.testing.assert_allclose(tap, one / 3, 1e-6)
    scale = state[f"{layer}.downsample.1.weight"]
    np.testing.assert_array_equal(block["downsample_1"]["scale"], scale)
    np.testing.assert_array_equal(params["fc"]["bias"], state["fc.bias"])
    only = inflate(model.clone(units="ST"), state)["params"]["layer1_0"]
    np.testing.assert_array_equal(only["conv1_t"]["kernel"], block["conv1_t"]["kernel"])


MOBILE = {
    "stages": ((1, 8, 1, 2), (6, 8, 1, 1)),
    "width": 8,
    "last": 16,
    "num_classes": 5,
}


def mobile_image():
    """torchvision's keys of a MobileNetV2 of two blocks."""

    def step(name, n, out, inside, side=1):
        conv, bn = (f"{name}.{i}" if n is None else f"{name}.{n + i}" for i in (0, 1))
        kernel = array(out, inside, side, side)
        return {f"{conv}.weight": kernel} | norm(bn, out)

    state = step("features.0", None, 8, 3, 3)
    state |= step("features.1.conv.0", None, 8, 1, 3) | step("features.1.conv", 1, 8, 8)
    state |= step("features.2.conv.0", None, 48, 8)
    state |= step("features.2.conv.1", None, 48, 1, 3)
    state |= step("features.2.conv", 2, 8, 48) | step("features.3", None, 16, 8)
    return state | {"classifier.1.weight": array(5, 16), "classifier.1.bias": array(5)}


def test_inflation_of_mobilenet():
    state = mobile_image()
    model = stjax.create_model("fusion_mobilenetv2", **MOBILE)
    params = inflate(model, state)["params"]
    one = state["features.2.conv.0.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params["block1"]["expand"]["conv"]["kernel"][0], one)
    for tap in params["block1"]["temporal"]["conv"]["kernel"]:
        np.testing.assert_allclose(tap, one / 3, 1e-6)
    scale = params["block1"]["temporal"]["norm"]["scale"]
    np.testing.assert_array_equal(scale, state["features.2.conv.0.1.weight"])
    with pytest.raises(UserError, match="not a checkpoint of FusionMobileNetV2"):
        inflate(model, original())
