"""C2D and I3D: published sizes and costs, places of blocks, tests on large frames."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.errors import UserError
from stjax.layers.bottleneck3d import ResBlock, Stage
from stjax.layers.video_stem import STEMS
from stjax.macs import count_macs
from stjax.models.registry import create_model
from stjax.models.resnet3d import non_local_places

# Parameters and multiply-adds (G) at 8x224x224, 400 classes, measured on PySlowFast.
SIZES = {
    ("c2d_r50", 0): (24_327_632, 19.49),
    ("c2d_r50", 5): (31_686_096, 27.62),
    ("c2d_r101", 0): (43_319_760, 34.34),
    ("c2d_r101", 5): (50_678_224, 42.47),
    ("i3d_r50", 0): (28_043_472, 28.41),
    ("i3d_r50", 5): (35_401_936, 36.54),
    ("i3d_r101", 0): (51_754_192, 46.96),
    ("i3d_r101", 5): (59_112_656, 55.08),
}


def abstract(model, shape=(1, 8, 224, 224, 3)):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(model.init, key, x), x


def count(model, **kw):
    params = abstract(model, **kw)[0]["params"]
    return sum(p.size for p in jax.tree.leaves(params))


@pytest.mark.parametrize("name,blocks", SIZES)
def test_published_sizes(name, blocks):
    model = create_model(name, non_local=blocks)
    variables, x = abstract(model)
    params, gmacs = SIZES[name, blocks]
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == params
    macs = count_macs(lambda v, x: model.apply(v, x), variables, x)
    assert macs / 1e9 == pytest.approx(gmacs, abs=0.006)


def test_published_ratios():
    """Table 2e of the paper, relative to C2D-101, and mmaction2's tables."""
    base, _ = SIZES["c2d_r101", 0]
    inflated = count(create_model("i3d_r101", inflated="3x3x3"))
    assert round(inflated / base, 1) == 1.5
    assert round(SIZES["i3d_r101", 0][0] / base, 1) == 1.2
    assert round(SIZES["c2d_r101", 5][0] / base, 1) == 1.2
    gaussian = create_model(
        "i3d_r50", non_local=5, pairwise="gaussian", stem="mmaction2"
    )
    assert round(count(gaussian) / 1e6, 1) == 31.7


def test_places():
    assert non_local_places(50, 0) == ()
    assert non_local_places(50, 1) == ("res4_4",)
    five = ("res3_1", "res3_3", "res4_1", "res4_3", "res4_5")
    assert non_local_places(50, 5) == five
    assert len(non_local_places(50, 10)) == 10
    assert non_local_places(101, 5) == (*five[:2], "res4_6", "res4_13", "res4_20")
    assert len(non_local_places(101, 10)) == 10
    with pytest.raises(UserError, match="0, 1, 5 or 10"):
        non_local_places(50, 3)
    # PySlowFast's places, for both depths.
    here = create_model("c2d_r101", places=five)
    params = abstract(here)[0]["params"]
    found = [
        f"res{stage[1]}_{name[-1]}"
        for stage in sorted(params)
        for name in sorted(params[stage])
        if "nonlocal" in name
    ]
    assert found == list(five)


def test_inflated_kernels():
    """Every other block: all of res2, even ones of res3 and res4, one of res5."""
    params = abstract(create_model("i3d_r50"))[0]["params"]
    spans = {
        stage: [
            params[stage][f"pathway0_res{i}"]["branch2"]["a"]["kernel"].shape[0]
            for i in range(len(params[stage]))
        ]
        for stage in ("s2", "s3", "s4", "s5")
    }
    assert spans == {
        "s2": [3, 3, 3],
        "s3": [3, 1, 3, 1],
        "s4": [3, 1, 3, 1, 3, 1],
        "s5": [1, 3, 1],
    }
    other = abstract(create_model("i3d_r50", inflated="3x3x3"))[0]["params"]
    branch = other["s5"]["pathway0_res1"]["branch2"]
    assert branch["b"]["kernel"].shape[:3] == (3, 3, 3)
    assert branch["a"]["kernel"].shape[:3] == (1, 1, 1)


def tiny(name="i3d_r50", **fields):
    given = {"width": 4, "num_classes": 5, "window": 1, "dropout": 0.0, **fields}
    return create_model(name, **given)


# Frames of the last map of 32 frames of 224, and its sides: a 64-frame span is 4
# everywhere in the paper and in its code, except where nothing is pooled.
@pytest.mark.parametrize(
    "stem,frames,side",
    [
        ("slowfast", 16, 7),
        ("slowfast_nopool", 32, 7),
        ("caffe2", 16, 7),
        ("caffe2_long", 4, 7),
        ("paper", 4, 7),
        ("mmaction2", 4, 7),
    ],
)
def test_stems(stem, frames, side):
    model = tiny("c2d_r50", stem=stem)
    variables, x = abstract(model, (1, 32, 224, 224, 3))
    y = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, x)
    assert y.shape == (1, frames, side, side, 128)
    assert set(STEMS) >= {stem}


def variables_of(model, x):
    """Random weights that leave no branch idle."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x))
    rng = np.random.default_rng(0)

    def make(path, leaf):
        noise = rng.standard_normal(leaf.shape).astype("f4")
        if path[-1].key in ("scale", "var"):
            return np.abs(1 + 0.1 * noise)
        if path[-1].key == "kernel":
            return noise / np.prod(leaf.shape[:-1]) ** 0.5
        return 0.1 * noise

    return jax.tree_util.tree_map_with_path(make, shapes)


@pytest.fixture(scope="module")
def wide():
    """A map of 2 x 3 positions, and the model's variables for it."""
    x = np.random.default_rng(1).standard_normal((2, 4, 64, 96, 3)).astype("f4")
    model = tiny("c2d_r50")
    variables = variables_of(model, x)
    maps = jax.jit(lambda v: model.apply(v, x, method="features"))(variables)
    return variables, x, np.asarray(maps, np.float64)


@pytest.mark.parametrize("window,positions", [(1, (2, 3)), (2, (1, 2)), (7, (1, 1))])
@pytest.mark.parametrize("multi_label", [False, True])
def test_fully_convolutional(wide, window, positions, multi_label):
    """Probabilities of positions are averaged, not features."""
    variables, x, maps = wide
    model = tiny("c2d_r50", window=window, multi_label=multi_label)
    head = variables["params"]["head"]["projection"]
    h, w = (min(window, n) for n in (2, 3))
    found = []
    for i in range(positions[0]):
        for j in range(positions[1]):
            pooled = maps[:, :, i : i + h, j : j + w].mean((1, 2, 3))
            found.append(pooled @ head["kernel"] + head["bias"])
    found = np.stack(found, 1)
    if multi_label:
        expected = (1 / (1 + np.exp(-found))).mean(1)
    else:
        exp = np.exp(found - found.max(-1, keepdims=True))
        expected = (exp / exp.sum(-1, keepdims=True)).mean(1)
    apply = jax.jit(lambda v, maps: model.apply(v, maps, False, method=_head))
    logits = apply(variables, maps.astype("f4"))
    turn = jax.nn.sigmoid if multi_label else jax.nn.softmax
    np.testing.assert_allclose(turn(logits), expected, rtol=1e-5)
    if positions == (1, 1):
        np.testing.assert_allclose(logits, found[:, 0], rtol=1e-5, atol=1e-5)


def _head(model, maps, train):
    return model.head(maps, train)


def test_frozen_bn():
    """Batch statistics do not count, and neither they nor scale and bias move."""
    x = np.random.default_rng(1).standard_normal((2, 4, 32, 32, 3)).astype("f4")
    model = tiny("c2d_r50", frozen_bn=True, non_local=1, non_local_norm=False, pool=1)
    variables = variables_of(model, x)

    # It runs once: an optimised program would take longer to compile.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(variables):
        def loss(params):
            given = {**variables, "params": params}
            y, new = model.apply(given, x, train=True, mutable=["batch_stats"], rngs={})
            return jnp.square(y).sum(), (y, new["batch_stats"])

        return jax.grad(loss, has_aux=True)(variables["params"])

    grads, (y, stats) = run(variables)
    np.testing.assert_allclose(
        y, jax.jit(model.apply)(variables, x), rtol=1e-5, atol=1e-5
    )
    jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        of_norm = path[-1].key == "scale" or "bn" in path[-2].key
        assert np.any(grad) != of_norm or path[-1].key == "bias", path
    block = grads["s4"]["pathway0_nonlocal4"]
    assert "bn" not in block and np.any(block["conv_out"]["kernel"])


@pytest.mark.parametrize("zero_init", [True, False])
def test_zero_init(zero_init):
    """The residual branch vanishes at birth."""
    x = np.random.default_rng(1).standard_normal((1, 2, 4, 4, 8)).astype("f4")
    block = ResBlock(4, 8, (3, 1), zero_init=zero_init)
    variables = jax.jit(block.init, static_argnums=2)(jax.random.key(0), x, False)
    y = block.apply(variables, x, False)
    assert np.array_equal(y, np.maximum(x, 0)) == zero_init


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat(remat):
    x = np.random.default_rng(1).standard_normal((1, 2, 4, 4, 8)).astype("f4")
    fields = {"inner": 4, "stride": 2, "windows": ((3, 1),) * 2, "non_local": (1,)}
    plain, saving = (
        Stage(block={}, non_local_fields={}, remat=r, **fields) for r in ("none", remat)
    )
    variables = jax.jit(plain.init, static_argnums=2)(jax.random.key(0), x, False)

    def gradients(model):
        def loss(params):
            given = {**variables, "params": params}
            y, _ = model.apply(given, x, True, mutable=["batch_stats"])
            return jnp.square(y).sum()

        return jax.grad(loss)

    ours, theirs = (jax.jit(gradients(m))(variables["params"]) for m in (plain, saving))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        ours,
        theirs,
    )
    text = str(jax.make_jaxpr(gradients(saving))(variables["params"]))
    assert "remat" in text or "checkpoint" in text


def test_dropout_needs_its_rng():
    x = np.ones((1, 4, 32, 32, 3), np.float32)
    model = tiny("c2d_r50", dropout=0.5)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x))

    def draw(v, k):
        return model.apply(
            v, x, train=True, rngs={"dropout": k}, mutable=["batch_stats"]
        )[0]

    y = jax.eval_shape(draw, shapes, jax.random.key(0))
    assert y.shape == (1, 5) and y.dtype == jnp.float32


@pytest.mark.parametrize(
    "fields,shape,message",
    [
        ({"depth": 34}, (1, 4, 32, 32, 3), "50 or 101"),
        ({"stem": "slowfest"}, (1, 4, 32, 32, 3), "slowfast"),
        ({"inflated": "3x3"}, (1, 4, 32, 32, 3), "3x3x3"),
        ({"places": ("res4_9",)}, (1, 4, 32, 32, 3), "res4_9"),
        ({"places": ("conv4",)}, (1, 4, 32, 32, 3), "conv4"),
        ({}, (1, 32, 32, 3), r"\[B, T, H, W, C\]"),
        ({}, (1, 1, 32, 32, 3), "at least 2 frames"),
        ({"stem": "caffe2_long"}, (1, 6, 32, 32, 3), "at least 7 frames"),
        ({"stem": "mmaction2"}, (1, 4, 32, 32, 3), "at least 5 frames"),
        ({}, (1, 4, 16, 32, 3), "16x32"),
    ],
)
def test_errors(fields, shape, message):
    model = tiny(**fields)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape)))
