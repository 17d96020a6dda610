"""Starting from weights with another head, without non-local blocks, of a backbone."""

import logging
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax import convert
from stjax.errors import UserError
from stjax.layers.common import BatchNorm
from stjax.models.probe import LinearProbe
from stjax.models.resnet3d import ResNet3D
from stjax.models.uniformer import UniFormer
from stjax.training import initial
from stjax.training.initial import initial_variables


class Net(nn.Module):
    """A recogniser: one layer, perhaps a non-local block, a head."""

    num_classes: int = 3
    width: int = 4
    non_local: bool = False

    def setup(self):
        self.s1 = nn.Dense(self.width)
        if self.non_local:
            self.s3_nonlocal1 = BatchNorm()
        self.head = nn.Dense(self.num_classes)

    def __call__(self, x, *, train=False):
        return self.head(self.features(x, train=train).mean((1, 2, 3)))

    def features(self, x, *, train=False):
        y = self.s1(x)
        return self.s3_nonlocal1(y, train=train) if self.non_local else y


CLIP = jnp.ones((1, 2, 4, 4, 3))


def variables_of(model, seed, x=CLIP):
    """All random, so that no two leaves agree by chance."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal(s.shape).astype(np.float32) for s in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(v) for v in values])


@pytest.fixture
def start(tmp_path, monkeypatch):
    """(saved variables, their classes, model) -> (found, fresh) variables."""

    def begin(saved, known, model, classes=None, strict=False):
        run = types.SimpleNamespace(
            variables=saved, spec=types.SimpleNamespace(classes=known)
        )
        monkeypatch.setattr(initial, "load_run", lambda path: run)
        made = variables_of(model, seed=99)
        abstract = jax.eval_shape(lambda: made)
        found = initial_variables(
            str(tmp_path),
            model,
            abstract,
            fresh=None if strict else lambda: made,
            classes=classes,
        )
        assert jax.tree.structure(found) == jax.tree.structure(made)
        return found, made

    return begin


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def told(caplog):
    """What the log says, as one string."""
    caplog.set_level(logging.INFO, logger="absl")
    return lambda: " ".join(record.getMessage() for record in caplog.records)


def test_the_same_model_takes_everything(start, told):
    saved = variables_of(Net(), 1)
    found, _ = start(saved, ("a", "b", "c"), Net(), ("a", "b", "c"))
    equal(found, saved)
    assert told() == ""


def test_other_classes_get_a_fresh_head(start, told):
    saved = variables_of(Net(), 1)
    found, made = start(saved, ("a", "b", "c"), Net(num_classes=5), tuple("vwxyz"))
    equal(found["params"]["s1"], saved["params"]["s1"])
    equal(found["params"]["head"], made["params"]["head"])
    assert "fresh: head (2)" in told()


def test_as_many_classes_with_other_names_get_a_fresh_head(start):
    saved = variables_of(Net(), 1)
    found, made = start(saved, ("a", "b", "c"), Net(), ("a", "b", "d"))
    equal(found["params"]["head"], made["params"]["head"])
    equal(found["params"]["s1"], saved["params"]["s1"])


@pytest.mark.parametrize("known", [None, ("0", "1", "2")])
def test_without_names_the_number_of_classes_decides(start, known):
    saved = variables_of(Net(), 1)
    found, _ = start(saved, known, Net(), ("a", "b", "c"))
    equal(found, saved)
    found, made = start(saved, known, Net(num_classes=2), ("a", "b"))
    equal(found["params"]["head"], made["params"]["head"])


def test_classes_that_the_model_knows_keep_their_outputs(start, told):
    saved = variables_of(Net(), 1)
    head = jax.tree.map(np.asarray, saved["params"]["head"])
    found, _ = start(saved, ("a", "b", "c"), Net(num_classes=2), ("C", "a"))
    np.testing.assert_array_equal(
        found["params"]["head"]["kernel"], head["kernel"][:, [2, 0]]
    )
    np.testing.assert_array_equal(found["params"]["head"]["bias"], head["bias"][[2, 0]])
    assert told() == ""


def test_a_missing_head_is_fresh(start):
    saved = variables_of(Net(), 1)
    del saved["params"]["head"]
    found, made = start(saved, None, Net())
    equal(found["params"]["head"], made["params"]["head"])
    with pytest.raises(UserError, match=r"params/head/bias \(3,\) is missing"):
        start(saved, None, Net(), strict=True)


def test_another_body_is_an_error(start):
    saved = variables_of(Net(width=6), 1)
    with pytest.raises(
        UserError, match=r"does not fit the model: params/s1/bias is \(6,\), the model"
    ) as error:
        start(saved, None, Net())
    assert "\n" not in str(error.value)
    assert "head" not in str(error.value)  # swapped, no part of the problem
    saved = variables_of(Net(), 1)
    del saved["params"]["s1"]["bias"]
    with pytest.raises(UserError, match=r"params/s1/bias \(4,\) is missing"):
        start(saved, None, Net())


def test_new_non_local_blocks_are_fresh(start, told):
    saved = variables_of(Net(), 1)
    found, made = start(saved, None, Net(non_local=True))
    for kind in ("params", "batch_stats"):
        block = "s3_nonlocal1"
        equal(found[kind][block], made[kind][block])
    equal(found["params"]["s1"], saved["params"]["s1"])
    equal(found["params"]["head"], saved["params"]["head"])
    assert "fresh: s3_nonlocal1 (4)" in told()


def test_half_a_non_local_block_is_an_error(start):
    saved = variables_of(Net(non_local=True), 1)
    del saved["params"]["s3_nonlocal1"]["scale"]
    with pytest.raises(UserError, match="s3_nonlocal1/scale .* is missing"):
        start(saved, None, Net(non_local=True))
    with pytest.raises(UserError, match="s3_nonlocal1/.* is not in the model"):
        start(saved, None, Net())


def test_a_probe_takes_the_backbone_of_a_recogniser(start, told):
    saved = variables_of(Net(), 1)
    found, made = start(saved, ("a", "b", "c"), LinearProbe(Net(), 7), tuple("tuvwxyz"))
    equal(found["params"]["backbone"]["s1"], saved["params"]["s1"])
    equal(found["params"]["head"], made["params"]["head"])
    assert "fresh: head (2)" in told()
    with pytest.raises(UserError, match="params/backbone/s1/bias is"):
        start(saved, None, LinearProbe(Net(width=6), 7))


def test_a_probe_takes_another_probe(start):
    saved = variables_of(LinearProbe(Net(), 3), 1)
    found, _ = start(saved, None, LinearProbe(Net(), 3))
    equal(found, saved)
    found, made = start(saved, None, LinearProbe(Net(), 4))
    equal(found["params"]["backbone"], saved["params"]["backbone"])
    equal(found["params"]["head"], made["params"]["head"])


TINY = UniFormer(
    num_classes=3,
    depth=(1, 1, 1, 1),
    embed_dim=(4, 4, 8, 8),
    head_dim=4,
    mlp_ratio=1.0,
)
VIDEO = jnp.ones((1, 2, 32, 32, 3))


def save(state, path):
    from safetensors.numpy import save_file

    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path)
    return str(path)


@pytest.fixture(scope="module")
def uniformer():
    return variables_of(TINY, 1, VIDEO)


def from_file(path, model, x=VIDEO, **classes):
    made = variables_of(model, 99, x)
    abstract = jax.eval_shape(lambda: made)
    found = initial_variables(path, model, abstract, fresh=lambda: made, **classes)
    return found, made


def without_head(variables):
    params = {k: v for k, v in variables["params"].items() if k != "head"}
    return {**variables, "params": params}


def test_files_of_the_original(uniformer, tmp_path):
    path = save(convert.to_torch(TINY, uniformer), tmp_path / "u.safetensors")
    found, _ = from_file(path, TINY)
    equal(found, uniformer)
    found, made = from_file(path, TINY.clone(num_classes=5))
    equal(without_head(found), without_head(uniformer))
    equal(found["params"]["head"], made["params"]["head"])
    found, made = from_file(path, LinearProbe(TINY, 5))
    equal(found["params"]["backbone"], without_head(uniformer)["params"])
    equal(found["batch_stats"]["backbone"], uniformer["batch_stats"])
    equal(found["params"]["head"], made["params"]["head"])
    with pytest.raises(UserError, match="blocks1_?.?0"):
        from_file(path, TINY.clone(mlp_ratio=2.0))


def test_labels_of_a_file(uniformer, tmp_path):
    path = save(convert.to_torch(TINY, uniformer), tmp_path / "u.safetensors")
    kernel = np.asarray(uniformer["params"]["head"]["kernel"])
    classes = {"labels": ("Cat", "dog", "hen house"), "classes": ("hen_house", "cat")}
    found, _ = from_file(path, TINY.clone(num_classes=2), **classes)
    np.testing.assert_array_equal(found["params"]["head"]["kernel"], kernel[:, [2, 0]])
    classes["classes"] = ("cat", "dog", "cow")
    found, made = from_file(path, TINY, **classes)
    equal(found["params"]["head"], made["params"]["head"])
    with pytest.raises(UserError, match="2 labels are given .* has 3 classes"):
        from_file(path, TINY, labels=("cat", "dog"), classes=("dog", "cat", "cow"))


def test_non_local_blocks_on_a_trained_network(tmp_path, told):
    """How SlowFast's maintainers advise to train them; at birth the identity."""
    model, x = ResNet3D(width=4, num_classes=3), jnp.ones((1, 2, 32, 32, 3))
    saved = variables_of(model, 1, x)
    path = save(convert.to_torch(model, saved), tmp_path / "c2d.safetensors")
    found, made = from_file(path, model.clone(non_local=1, num_classes=4), x)
    block = made["params"]["s4"].pop("pathway0_nonlocal4")
    equal(found["params"]["s4"].pop("pathway0_nonlocal4"), block)
    del found["batch_stats"]["s4"]["pathway0_nonlocal4"]
    equal(found["params"].pop("head"), made["params"]["head"])
    del saved["params"]["head"]
    equal(found, saved)
    assert "fresh: head/projection (2), s4/pathway0_nonlocal4 (12)" in told()


def test_weights_of_images_are_inflated(uniformer, tmp_path):
    state = convert.to_torch(TINY, uniformer)
    state = {k: v.sum(2) if v.ndim == 5 else v for k, v in state.items()}
    state["head.weight"] = np.zeros((1000, 8), np.float32)
    state["head.bias"] = np.zeros(1000, np.float32)
    path = save(state, tmp_path / "image.safetensors")
    found, made = from_file(path, TINY)
    stem = found["params"]["patch_embed1"]["proj"]["kernel"]
    image = np.moveaxis(state["patch_embed1.proj.weight"], (0, 1), (-1, -2))
    for t in range(3):
        np.testing.assert_allclose(stem[t], image / 3, rtol=1e-6)
    equal(found["params"]["head"], made["params"]["head"])
