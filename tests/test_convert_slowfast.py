"""C2D and I3D: PySlowFast's numbers, and the weights of four projects."""

import io
import json
import pickle
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from test_convert import recipe_value

import stjax
from stjax.convert import from_torch, read_file, to_torch
from stjax.convert.inflate import inflate
from stjax.convert.slowfast import FAMILY
from stjax.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
TINY = {
    "c2d_r50_w4": ("c2d_r50", {}),
    "i3d_r50_w4_nl_softmax": ("i3d_r50", {"non_local": 5}),
    "i3d_r50_w4_nl_dot": ("i3d_r50", {"non_local": 5, "pairwise": "dot_product"}),
}


def state_dict(z):
    return {k[6:]: z[k] for k in z.files if k.startswith("param/")}


def close(x, ref, rel):
    assert np.abs(np.asarray(x) - ref).max() <= rel * np.abs(ref).max()


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def tiny(name, **fields):
    kind, own = TINY[name]
    given = {"width": 4, "num_classes": 7, "window": 2, **own, **fields}
    return stjax.create_model(kind, **given)


@pytest.mark.parametrize("name", TINY)
def test_forward_and_round_trip(golden, name):
    z = golden(f"{name}.npz")
    model = tiny(name)
    variables = from_torch(model, state_dict(z))
    same(to_torch(model, variables), state_dict(z))
    apply = jax.jit(model.apply)
    # input_fcn is larger than the training's: probabilities of positions, averaged.
    for of in ("", "_fcn"):
        logits = apply(variables, np.moveaxis(z["input" + of], 1, -1))
        close(jax.nn.softmax(logits), z["output" + of], 1e-5)


def test_full_size(golden):
    z = golden("recipe_i3d_r50_nln_softmax.npz")
    model = stjax.create_model("i3d_r50", non_local=5, window=4)
    seed, scales = int(z["seed"]), json.loads(str(z["scales_json"]))
    keys = json.loads(str(z["keys_json"]))
    state = {k: recipe_value(k, shape, seed, scales) for k, shape in keys}
    variables = from_torch(model, state)
    count = sum(v.size for v in jax.tree.leaves(variables["params"]))
    assert count == int(z["num_parameters"]) == 35_401_936
    x = np.random.default_rng(seed).standard_normal(tuple(z["input_shape"]))
    x = np.moveaxis(x.astype(np.float32), 1, -1)
    logits = jax.jit(model.apply)(variables, x)
    close(logits, z["logits"], 2e-5)
    close(jax.nn.softmax(logits), z["output"], 2e-5)


def test_keys_of_the_published_checkpoint():
    lines = (GOLDEN / "keys_slowfast_i3d_nln_r50.txt").read_text().splitlines()
    listed = {
        k: tuple(json.loads(shape)) for k, shape in (x.split("\t") for x in lines)
    }
    assert len(listed) == 385
    model = stjax.create_model("i3d_r50", non_local=5)
    x = np.zeros((1, 8, 64, 64, 3), np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x))
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    ours = {k: v.shape for k, v in to_torch(model, zeros).items()}
    assert ours == listed


@pytest.mark.parametrize("project", ["caffe2", "mmaction2"])
@pytest.mark.parametrize("name", list(TINY)[:2])
def test_other_projects_there_and_back(golden, name, project):
    model = tiny(name)
    variables = from_torch(model, state_dict(golden(f"{name}.npz")))
    theirs = to_torch(model, variables, project)
    jax.tree.map(np.testing.assert_array_equal, from_torch(model, theirs), variables)


def test_keys_of_other_projects(golden):
    """As in c2_model_loading.py of PySlowFast and in mmaction2's ResNet3d."""
    model = tiny("i3d_r50_w4_nl_softmax")
    state = state_dict(golden("i3d_r50_w4_nl_softmax.npz"))
    variables = from_torch(model, state)
    expected = {
        "caffe2": {
            "conv1_w": "s1.pathway0_stem.conv.weight",
            "res_conv1_bn_s": "s1.pathway0_stem.bn.weight",
            "res_conv1_bn_riv": "s1.pathway0_stem.bn.running_var",
            "res4_4_branch2c_w": "s4.pathway0_res4.branch2.c.weight",
            "res2_0_branch1_bn_rm": "s2.pathway0_res0.branch1_bn.running_mean",
            "res5_2_branch2a_bn_b": "s5.pathway0_res2.branch2.a_bn.bias",
            "nonlocal_conv3_1_theta_w": "s3.pathway0_nonlocal1.conv_theta.weight",
            "nonlocal_conv4_5_out_b": "s4.pathway0_nonlocal5.conv_out.bias",
            "nonlocal_conv4_5_bn_s": "s4.pathway0_nonlocal5.bn.weight",
            "pred_w": "head.projection.weight",
        },
        "mmaction2": {
            "backbone.conv1.conv.weight": "s1.pathway0_stem.conv.weight",
            "backbone.conv1.bn.running_var": "s1.pathway0_stem.bn.running_var",
            "backbone.layer1.0.downsample.conv.weight": (
                "s2.pathway0_res0.branch1.weight"
            ),
            "backbone.layer3.4.conv3.bn.weight": "s4.pathway0_res4.branch2.c_bn.weight",
            "backbone.layer2.1.non_local_block.g.0.conv.weight": (
                "s3.pathway0_nonlocal1.conv_g.weight"
            ),
            "backbone.layer2.1.non_local_block.theta.conv.bias": (
                "s3.pathway0_nonlocal1.conv_theta.bias"
            ),
            "backbone.layer2.1.non_local_block.conv_out.conv.weight": (
                "s3.pathway0_nonlocal1.conv_out.weight"
            ),
            "backbone.layer2.1.non_local_block.conv_out.bn.running_mean": (
                "s3.pathway0_nonlocal1.bn.running_mean"
            ),
            "cls_head.fc_cls.bias": "head.projection.bias",
        },
    }
    for project, pairs in expected.items():
        theirs = to_torch(model, variables, project)
        for key, ours in pairs.items():
            np.testing.assert_array_equal(theirs[key], state[ours], err_msg=key)
    # Without sub-sampling mmaction2's phi and g are no lists.
    bare = {
        k.replace(".g.0.", ".g.").replace(".phi.0.", ".phi."): v
        for k, v in to_torch(model, variables, "mmaction2").items()
    }
    jax.tree.map(np.testing.assert_array_equal, from_torch(model, bare), variables)
    with pytest.raises(UserError, match="project"):
        to_torch(model, variables, "mmaction")


def test_concatenation_of_mmaction2():
    key = "backbone.layer2.1.non_local_block.concat_project.conv.weight"
    weight = np.arange(8, dtype=np.float32)
    state = {"s3.pathway0_nonlocal1.w_f": weight}
    theirs = FAMILY.projects["mmaction2"](state)
    assert {k: v.shape for k, v in theirs.items()} == {key: (1, 8, 1, 1, 1)}
    marked = {**theirs, "backbone.conv1.conv.weight": np.zeros(1)}
    assert FAMILY.adapt(marked)["s3.pathway0_nonlocal1.w_f"].shape == (8,)
    with pytest.raises(UserError, match="w_f"):
        FAMILY.projects["caffe2"](state)


def test_caffe2_pickle(golden, tmp_path):
    """Python 2's pickle of a dictionary of blobs, with the solver's state."""
    model = tiny("c2d_r50_w4")
    variables = from_torch(model, state_dict(golden("c2d_r50_w4.npz")))
    blobs = to_torch(model, variables, "caffe2")
    solver = {f"{k}_momentum": v for k, v in blobs.items()}
    solver |= {"lr": np.float32(0.01), "model_iter": np.array([400_000])}
    buffer = io.BytesIO()
    pickle.dump({"blobs": blobs | solver, "cfg": "text"}, buffer, protocol=2)
    path = tmp_path / "I3D.pkl"
    path.write_bytes(buffer.getvalue())
    found = from_torch(model, read_file(path))
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_caffe2_affine(golden):
    """Frozen batch norm is stored as scale and bias alone."""
    z = golden("c2d_r50_w4.npz")
    model = tiny("c2d_r50_w4")
    state = state_dict(z)
    folded = dict(state)
    for key in state:
        if key.endswith("running_var"):
            name = key.removesuffix(".running_var")
            gain = state[f"{name}.weight"] / np.sqrt(state[key].astype("f8") + 1e-5)
            shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * gain
            folded |= {f"{name}.weight": gain, f"{name}.bias": shift}
    blobs = FAMILY.projects["caffe2"](folded)
    blobs = {k: v for k, v in blobs.items() if not k.endswith(("_rm", "_riv"))}
    variables = from_torch(model, blobs)
    logits = jax.jit(model.apply)(variables, np.moveaxis(z["input"], 1, -1))
    close(jax.nn.softmax(logits), z["output"], 1e-5)


def image_state(model, variables, classes=5):
    """torchvision's keys and 2-D kernels, from a C2D model."""
    state = {}
    for key, value in to_torch(model, variables).items():
        key = key.replace("s1.pathway0_stem.conv", "conv1")
        key = key.replace("s1.pathway0_stem.bn", "bn1")
        key = re.sub(r"^s(\d)\.pathway0_res", lambda m: f"layer{int(m[1]) - 1}.", key)
        key = key.replace("branch1_bn", "downsample.1").replace(
            "branch1", "downsample.0"
        )
        for i, letter in enumerate("abc", 1):
            key = key.replace(f"branch2.{letter}_bn", f"bn{i}")
            key = key.replace(f"branch2.{letter}", f"conv{i}")
        if not key.startswith("head"):
            state[key] = value[:, :, 0] if value.ndim == 5 else value
    width = model.width * 32
    state["fc.weight"] = np.ones((classes, width), np.float32)
    state["fc.bias"] = np.ones(classes, np.float32)
    return state


@pytest.fixture(scope="module")
def images(golden):
    c2d = tiny("c2d_r50_w4")
    variables = from_torch(c2d, state_dict(golden("c2d_r50_w4.npz")))
    return c2d, variables, image_state(c2d, variables)


def test_keys_of_images(images):
    state = images[2]
    for key, shape in {
        "conv1.weight": (4, 3, 7, 7),
        "bn1.running_mean": (4,),
        "layer1.0.conv1.weight": (4, 4, 1, 1),
        "layer3.5.bn3.weight": (64,),
        "layer2.0.downsample.0.weight": (32, 16, 1, 1),
        "layer2.0.downsample.1.running_var": (32,),
        "fc.weight": (5, 128),
    }.items():
        assert state[key].shape == shape


def test_inflation(images):
    """A clip of equal frames gives what the image network gives."""
    c2d, variables, state = images
    headless = {k: v for k, v in state.items() if not k.startswith("fc")}
    with pytest.raises(UserError, match="weights for images"):
        from_torch(c2d, headless)
    i3d = tiny("i3d_r50_w4_nl_softmax")
    inflated = inflate(i3d, state)
    stem = inflated["params"]["s1"]["pathway0_stem"]["conv"]["kernel"]
    flat = variables["params"]["s1"]["pathway0_stem"]["conv"]["kernel"]
    assert stem.shape[0] == 5
    np.testing.assert_allclose(stem.sum(0), flat[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(stem[0], stem[4])
    # From C2D the same, but for what is new.
    from_c2d = inflate(i3d, to_torch(c2d, variables), partial=True)["params"]
    for stage in ("s1", "s2", "s5"):
        ours = inflated["params"][stage]
        jax.tree.map(np.testing.assert_array_equal, from_c2d[stage], ours)
    assert not [k for k in from_c2d["s3"] if "nonlocal" in k]

    frame = np.random.default_rng(0).standard_normal((1, 1, 32, 32, 3)).astype("f4")

    def middle(model, variables, frames):
        clip = np.repeat(frame, frames, 1)
        apply = jax.jit(lambda v, x: model.apply(v, x, method="features"))
        y = apply(variables, clip)
        return y[:, y.shape[1] // 2]

    # Zeros beyond the ends reach 5 frames deep before the pool and 6 of 2 after it.
    # The blocks, new, are the identity.
    close(middle(i3d, inflated, 40), middle(c2d, variables, 2), 1e-5)


def test_a_new_head(images):
    c2d, variables, state = images
    found = inflate(c2d, state, seed=1)  # 5 classes there, 7 here
    head = found["params"]["head"]["projection"]
    assert head["kernel"].shape == (128, 7) and not head["bias"].any()
    assert 0.005 < head["kernel"].std() < 0.02
    rest = {k: v for k, v in found["params"].items() if k != "head"}
    for name, tree in rest.items():
        ours = variables["params"][name]
        jax.tree.map(np.testing.assert_array_equal, tree, ours)
    same_classes = inflate(c2d, to_torch(c2d, variables))
    jax.tree.map(np.testing.assert_array_equal, same_classes, variables)
    headless = {k: v for k, v in state.items() if not k.startswith("fc")}
    inflate(c2d, headless)


def test_errors(images):
    c2d, variables, state = images
    with pytest.raises(UserError, match="no s1.pathway0_stem.conv.weight"):
        from_torch(c2d, {"embed.weight": np.zeros(3)})
    lacking = {k: v for k, v in state.items() if k != "layer1.0.conv2.weight"}
    with pytest.raises(UserError, match="missing: s2.pathway0_res0.branch2.b.weight"):
        inflate(c2d, lacking)
    with pytest.raises(UserError, match="left over: surplus.weight"):
        inflate(c2d, {**state, "surplus.weight": np.zeros(3)})
    with pytest.raises(UserError, match="7 classes"):
        from_torch(tiny("c2d_r50_w4", num_classes=3), to_torch(c2d, variables))
