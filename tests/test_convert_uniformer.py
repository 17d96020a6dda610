"""UniFormer's checkpoints, images' weights, and classes by name."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.convert import class_count, from_torch, to_torch
from stjax.convert.inflate import inflate
from stjax.convert.labels import label_order, read_labels, remap_head
from stjax.convert.uniformer import to_mmaction2
from stjax.errors import UserError

TINY = {
    "depth": (1, 1, 2, 1),
    "embed_dim": (8, 16, 32, 64),
    "head_dim": 16,
    "num_classes": 7,
}


def state_dict(z):
    return {k[6:]: z[k] for k in z.files if k.startswith("param/")}


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.fixture(scope="module")
def tiny(golden):
    model = stjax.create_model("uniformer_s", **TINY)
    state = state_dict(golden("uniformer_tiny_joint.npz"))
    return model, state, from_torch(model, state)


def test_keys_of_the_published_checkpoint():
    """All 331 entries, names and shapes."""
    model = stjax.create_model("uniformer_s")
    clip = jnp.zeros((1, 2, 32, 32, 3))
    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), clip))
    empty = jax.tree.map(lambda v: np.broadcast_to(np.float32(0), v.shape), abstract)
    ours = {k: list(v.shape) for k, v in to_torch(model, empty).items()}
    lines = Path(__file__).parent.joinpath("golden/keys_uniformer_s_k400.txt")
    rows = [line.split("\t") for line in lines.read_text().splitlines() if line]
    theirs = {name: json.loads(shape) for name, shape, _ in rows}
    assert len(theirs) == 331
    assert ours == theirs


@pytest.mark.parametrize("name", ["split", "std", "smallvar"])
def test_round_trip(golden, name):
    state = state_dict(golden(f"uniformer_tiny_{name}.npz"))
    model = stjax.create_model(
        "uniformer_s", **TINY, split=name == "split", std=name == "std"
    )
    equal(to_torch(model, from_torch(model, state)), state)


def test_mmaction2(tiny):
    model, state, variables = tiny
    theirs = to_mmaction2(state)
    assert {"backbone.blocks3.1.attn.qkv.weight", "cls_head.fc_cls.bias"} <= set(theirs)
    wrapped = {f"module.{k}": v for k, v in theirs.items()}
    jax.tree.map(np.testing.assert_array_equal, from_torch(model, wrapped), variables)
    back = to_torch(model, variables, project="mmaction2")
    equal(back, theirs)


def test_wrong_number_of_classes(tiny):
    model, state, _ = tiny
    assert class_count(model, state) == 7
    with pytest.raises(UserError) as error:
        from_torch(model.clone(num_classes=174), state)
    text = str(error.value)
    assert "has 7 classes" in text and "174" in text and "\n" not in text
    assert "model.num_classes=7" in text and "train.init_from" in text


def test_another_checkpoint(tiny):
    model, state, _ = tiny
    with pytest.raises(UserError, match="not a UniFormer checkpoint"):
        from_torch(model, {"s1.pathway0_stem.conv.weight": np.zeros((4, 3, 1, 7, 7))})
    with pytest.raises(UserError, match=r"missing: norm\.bias"):
        from_torch(model, {k: v for k, v in state.items() if k != "norm.bias"})


def images(state):
    """The weights of an image model: as the clip's, without time."""
    return {k: v[:, :, 0] if v.ndim == 5 else v for k, v in state.items()}


def test_inflation(tiny):
    model, state, _ = tiny
    flat = images(state)
    variables = inflate(model, {"model." + k: v for k, v in flat.items()})
    params = variables["params"]
    for key, taps in (("patch_embed1/proj", 3), ("blocks1_0/attn", 5)):
        block, layer = key.split("/")
        kernel = params[block][layer]["kernel"]
        image = flat[f"{block.replace('s1_', 's1.')}.{layer}.weight"]
        assert kernel.shape[0] == taps
        for tap in kernel:
            np.testing.assert_allclose(tap, image.transpose(2, 3, 1, 0) / taps)
        np.testing.assert_allclose(kernel.sum(0), image.transpose(2, 3, 1, 0), 1e-5)
    np.testing.assert_array_equal(params["head"]["bias"], state["head.bias"])


def test_inflation_with_other_classes(tiny):
    model, state, variables = tiny
    other = inflate(model.clone(num_classes=3), state)
    assert other["params"]["head"]["kernel"].shape == (64, 3)
    # T of a video model's kernels is there already.
    body = {k: v for k, v in other["params"].items() if k != "head"}
    expected = {k: v for k, v in variables["params"].items() if k != "head"}
    jax.tree.map(np.testing.assert_array_equal, body, expected)


def test_inflation_of_the_divided_model(tiny):
    model, state, _ = tiny
    params = inflate(model.clone(split=True), images(state), partial=True)["params"]
    assert "attn" in params["blocks3_0"] and "t_attn" not in params["blocks3_0"]
    with pytest.raises(UserError, match="left over"):
        inflate(model, {**state, "blocks3.0.gamma_1": np.ones(32)})


def test_heads_by_name(tiny):
    model, _, variables = tiny
    have = ["a", "b", "c", "d", "e", "Playing_Drums", "tai chi"]
    want = ["Tai-Chi", '"[playing] drums"', "b"]
    x = np.random.default_rng(0).standard_normal((1, 2, 32, 32, 3)).astype(np.float32)
    new = remap_head(variables, have, want)
    y = jax.jit(model.apply)(variables, x)
    z = jax.jit(model.clone(num_classes=3).apply)(new, x)
    np.testing.assert_allclose(z, y[:, [6, 5, 1]], rtol=1e-5)
    with pytest.raises(UserError, match=r"no class 'f', 'g' \(2 of 3"):
        remap_head(variables, have, ["f", "a", "g"])
    with pytest.raises(UserError, match="7 classes and its list 2"):
        remap_head(variables, ["a", "b"], ["b", "a"])
    with pytest.raises(UserError, match="twice"):
        label_order(have, ["tai_chi", "tai chi"])
    with pytest.raises(UserError, match="two classes"):
        label_order(["tai chi", "tai_chi"], ["tai chi"])


NAMES = ["riding a bike", "marching", "push up, slowly"]
LISTS = {
    "lines.txt": "riding a bike\nmarching\n\npush up, slowly\n",
    "quoted.txt": '"riding a bike"\n"marching"\n"push up, slowly"\n',
    "index.txt": "0 riding a bike\n1 marching\n2 push up, slowly\n",
    "ucf.txt": "1 riding a bike\n3 push up, slowly\n2 marching\n",
    "tab.txt": "0\triding a bike\n1\tmarching\n2\tpush up, slowly\n",
    "id_name.csv": 'id,name\n0,riding a bike\n1,marching\n2,"push up, slowly"\n',
    "name_id.csv": 'name,id\nriding a bike,0\nmarching,1\n"push up, slowly",2\n',
    "names.json": json.dumps({name: i for i, name in enumerate(NAMES)}),
    "indices.json": json.dumps({str(i): name for i, name in enumerate(NAMES)}),
    "list.json": json.dumps(NAMES),
    "strings.json": json.dumps({name: str(i) for i, name in enumerate(NAMES)}),
}


@pytest.mark.parametrize("file", LISTS)
def test_lists_of_labels(tmp_path, file):
    path = tmp_path / file
    path.write_text(LISTS[file], encoding="utf-8")
    assert read_labels(path) == NAMES


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("gap.csv", "0,a\n2,b\n", "not 0 to 1"),
        ("twice.json", '{"a": 0, "b": 0}', "not 0 to 1"),
        ("none.txt", "\n", "no labels"),
        ("broken.json", "{", "not a list of labels"),
        ("number.json", "3", "not a list of labels"),
    ],
)
def test_lists_that_are_none(tmp_path, file, text, words):
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=words):
        read_labels(tmp_path / file)
    with pytest.raises(UserError, match="no such list"):
        read_labels(tmp_path / "absent.txt")
