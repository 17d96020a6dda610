"""Attention maps against a computation in numpy, from the weights and the input."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, expit, softmax

from stjax import viz
from stjax.data.base import ClipSpec, LabelSpec
from stjax.errors import UserError
from stjax.layers.common import BatchNorm
from stjax.layers.mhra import GlobalBlock
from stjax.layers.non_local import NonLocal
from stjax.models.registry import create_model
from stjax.prediction import Predictor
from stjax.recognition import Recogniser


class Head(nn.Module):
    """A layer under test, then classes."""

    layer: nn.Module

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(2, name="head")(self.layer(x, train).mean((1, 2, 3)))


def spec(t=4, side=6, channels=8):
    names = tuple(f"c{i}" for i in range(channels))
    return LabelSpec(
        t, side, side, ("a", "b"), channels=names, offset=(0.0,), scale=(255.0,)
    )


def recogniser(layer, **shape):
    """A recogniser with random variables, and what its layer sees of a clip."""
    found = spec(**shape)
    x = np.random.default_rng(0).random(found.input_shape, np.float32)
    model = Head(layer)
    variables = jax.jit(lambda: model.init(jax.random.key(1), x[None], train=False))()
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(2)
    leaves = [np.float32(rng.normal(0, 0.5, leaf.shape)) for leaf in leaves]
    variables = jax.tree.unflatten(tree, leaves)
    stats = variables.get("batch_stats", {})
    variables |= {"batch_stats": jax.tree.map(np.abs, stats)} if stats else {}
    params = variables["params"].get("layer")
    return Recogniser(model, variables, found), x, params


def dense(params, x):
    kernel = np.asarray(params["kernel"], np.float64)
    return x @ kernel.reshape(kernel.shape[-2:]) + np.asarray(params["bias"])


def pooled(x, side):
    t, h, w, c = x.shape
    x = x[:, : h // side * side, : w // side * side]
    return x.reshape(t, h // side, side, w // side, side, c).max((2, 4))


@pytest.mark.parametrize("pool_first", [True, False])
@pytest.mark.parametrize(
    "pairwise", ["embedded_gaussian", "gaussian", "dot_product", "concatenation"]
)
def test_non_local(pairwise, pool_first):
    layer = NonLocal(pairwise=pairwise, pool=2, pool_first=pool_first, name="layer")
    model, x, params = recogniser(layer)
    (found,) = viz.attention(model, x, (2, 3, 5))
    assert (found.name, found.kind, found.query) == ("layer", "non_local", (2, 3, 5))
    assert found.grid == (4, 6, 6) and found.weights.shape == (1, 4, 3, 3)
    if pairwise == "gaussian":
        query, keys = x[2, 3, 5], pooled(x, 2)
    else:
        query = dense(params["conv_theta"], x)[2, 3, 5]
        if pool_first:
            keys = dense(params["conv_phi"], pooled(x, 2))
        else:
            keys = pooled(dense(params["conv_phi"], x), 2)
    product = keys @ query
    if pairwise == "concatenation":
        first, second = np.split(np.asarray(params["w_f"], np.float64), 2)
        expected = np.maximum(query @ first + keys @ second, 0) / 36
    elif pairwise == "dot_product":
        expected = product / 36
    else:
        expected = softmax(product / np.sqrt(query.size))
    assert found.weights[0] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize(
    "fields, seen",
    [
        ({"attend": "space"}, np.s_[2:3, :, :]),
        ({"attend": "time"}, np.s_[:, 3:4, 5:6]),
        ({"temporal_groups": 2}, np.s_[2:4, :, :]),
    ],
)
def test_non_local_that_does_not_see_all(fields, seen, remat):
    cls = nn.remat(NonLocal, static_argnums=(2,)) if remat else NonLocal
    model, x, params = recogniser(cls(name="layer", **fields))
    (found,) = viz.attention(model, x, (2, 3, 5))
    keys = dense(params["conv_phi"], x)[seen]
    logits = keys @ dense(params["conv_theta"], x)[2, 3, 5] / 2
    expected = np.zeros((4, 6, 6))
    expected[seen] = softmax(logits)
    assert found.weights[0] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_global_mhra():
    layer = GlobalBlock(head_dim=4, dpe=False, name="layer")
    model, x, params = recogniser(layer)
    (found,) = viz.attention(model, x, (1, 0, 4))
    assert found.kind == "mhra" and found.weights.shape == (2, 4, 6, 6)
    y = x.reshape(-1, 8).astype(np.float64)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    y = y * np.asarray(params["norm1"]["scale"]) + np.asarray(params["norm1"]["bias"])
    query, keys, _ = np.split(dense(params["attn"]["qkv"], y), 3, axis=-1)
    query = query[1 * 36 + 0 * 6 + 4]
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        expected = softmax(keys[:, part] @ query[part] / 2).reshape(4, 6, 6)
        assert found.weights[head] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.fixture(scope="module")
def tau():
    """A small TAU with random weights, and a clip."""
    model = create_model("tau", hid_s=4, hid_t=24, n_s=2, n_t=3, mlp_ratio=2)
    found = ClipSpec(3, 3, 16, 16)
    x = np.random.default_rng(3).random((3, 16, 16, 1), np.float32)
    variables = jax.jit(lambda: model.init(jax.random.key(0), x[None]))()
    return Predictor(model, variables, found), x


def test_tau_is_what_gates_the_input(tau):
    """The block's result follows from static and dynamic attention."""
    predictor, x = tau
    found = viz.attention(predictor, x)
    names = [f"hid/enc_{i}/block/attn/spatial_gating_unit" for i in range(3)]
    assert [gate.name for gate in found] == names
    assert [gate.frames for gate in found] == [3, None, None]
    assert [gate.static.shape for gate in found] == [(8, 8, 12), (8, 8, 24), (8, 8, 24)]

    def capture(module, method):
        return module.name in ("proj_1", "spatial_gating_unit")

    def run(variables, x):
        kw = {"capture_intermediates": capture, "mutable": ["intermediates"]}
        return predictor.model.apply(variables, x, **kw)[1]["intermediates"]["hid"]

    seen = jax.jit(run)(predictor.variables, jnp.asarray(x[None]))
    params = predictor.variables["params"]["hid"]
    for i, gate in enumerate(found):
        module = seen[f"enc_{i}"]["block"]["attn"]
        result = np.asarray(module["spatial_gating_unit"]["__call__"][0][0], float)
        u = np.asarray(module["proj_1"]["__call__"][0][0], float)
        u = u * (1 + erf(u / np.sqrt(2))) / 2  # the exact GELU
        assert gate.static * gate.dynamic * u == pytest.approx(
            result, rel=1e-4, abs=1e-6
        )
        unit = params[f"enc_{i}"]["block"]["attn"]["spatial_gating_unit"]
        squeezed = u.mean((0, 1)) @ np.asarray(unit["fc_0"]["kernel"])
        excited = expit(np.maximum(squeezed, 0) @ np.asarray(unit["fc_2"]["kernel"]))
        assert gate.dynamic == pytest.approx(excited, rel=1e-4, abs=1e-6)


def test_a_network_in_a_loop_attends_as_one_without(tau):
    from stjax.stacked import stack

    predictor, x = tau
    looped = predictor.model.clone(scan=True)
    shapes = jax.eval_shape(lambda: looped.init(jax.random.key(0), x[None]))
    variables = stack(predictor.variables, shapes)
    again = viz.attention(Predictor(looped, variables, predictor.spec), x)
    for one, other in zip(viz.attention(predictor, x), again, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.static, other.static)


def test_pixels_become_cells():
    """A position in the clip is the cell of the layer in which it lies."""

    class Pooled(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.avg_pool(x, (2, 3, 3), (2, 3, 3))
            x = BatchNorm(name="bn")(x, train=train)
            return NonLocal(name="block")(x, train)

    model, x, _ = recogniser(Pooled(name="layer"))
    (found,) = viz.attention(model, x, (3, 2, 3))
    assert found.name == "layer/block" and found.grid == (2, 2, 2)
    assert found.query == (1, 0, 1)


def test_liveliest_is_where_something_moves():
    clip = np.zeros((5, 16, 16, 1))
    clip[3:, 10:13, 2:5] = 1.0
    t, y, x = viz.liveliest(clip)
    assert t == 3 and 9 < y < 14 and 1 < x < 6
    assert viz.liveliest(clip[:1]) == (0, 8, 8)


@pytest.mark.parametrize("position", [(3, 0, 0), (0, -1, 0), (0, 0), (0, 0, 16)])
def test_a_position_outside(tau, position):
    predictor, x = tau
    with pytest.raises(UserError, match=r"position .* within \(3, 16, 16\)"):
        viz.attention(predictor, x, position)


def test_a_model_without_attention():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return x

    model, x, _ = recogniser(Plain(name="layer"))
    with pytest.raises(UserError, match="neither TAU nor non-local"):
        viz.attention(model, x)
    with pytest.raises(UserError, match="one clip, got 2"):
        viz.attention(model, np.stack([x, x]))
