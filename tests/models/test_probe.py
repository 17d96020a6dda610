"""Probes on frozen features, and models of the user's own."""

import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax import create_model
from stjax.errors import UserError
from stjax.layers.common import BatchNorm
from stjax.models.probe import AttentiveProbe, LinearProbe
from stjax.models.registry import model_fields
from stjax.optim import create_optimizer
from stjax.param_groups import names


class Backbone(nn.Module):
    """Features: 8 channels of every pixel; a head, which a probe does not use."""

    num_classes: int = 3

    def setup(self):
        self.embed = nn.Dense(8)
        self.bn = BatchNorm()
        self.head = nn.Dense(self.num_classes)

    def __call__(self, x, *, train=False):
        return self.head(self.features(x, train=train).mean((1, 2, 3)))

    def features(self, x, *, train=False):
        return self.bn(self.embed(x), train=train)


def clips(n=2):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((n, 2, 4, 4, 3)), jnp.float32)


def moved(variables, seed=1):
    """Variables that are all random, batch statistics included."""
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(seed)
    noise = [jnp.asarray(rng.uniform(0.5, 1.5, v.shape), v.dtype) for v in leaves]
    return jax.tree.unflatten(tree, noise)


PROBES = [LinearProbe, AttentiveProbe]


@pytest.mark.parametrize("probe", PROBES)
def test_only_the_probe_learns(probe):
    model = probe(Backbone(), num_classes=5)
    variables = model.init(jax.random.key(0), clips())
    assert "head" not in variables["params"]["backbone"]
    variables = moved(variables)

    def loss(params):
        logits, updates = model.apply(
            {**variables, "params": params},
            clips(),
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.sum(logits**2), (logits, updates)

    grads, (logits, updates) = jax.grad(loss, has_aux=True)(variables["params"])
    assert logits.shape == (2, 5)
    assert logits.dtype == jnp.float32
    jax.tree.map(
        np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"]
    )
    assert all(not g.any() for g in jax.tree.leaves(grads.pop("backbone")))
    assert any(g.any() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("probe", PROBES)
def test_its_frozen_names_are_those_the_optimizer_leaves_out(probe):
    model = probe(Backbone(), num_classes=5)
    params = model.init(jax.random.key(0), clips())["params"]
    tx = create_optimizer("sgd", lr=0.1, total_steps=1, freeze=model.frozen)
    kept = names(tx.trained(params))
    assert kept
    assert not any(name.startswith("backbone") for name in kept)


def test_linear_probe_is_a_layer_on_the_mean_feature():
    backbone = Backbone()
    model = LinearProbe(backbone, num_classes=5)
    variables = moved(model.init(jax.random.key(0), clips()))
    inner = {k: v["backbone"] for k, v in variables.items()}
    features = backbone.apply(inner, clips(), method="features")
    head = variables["params"]["head"]
    expected = features.mean((1, 2, 3)) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(
        model.apply(variables, clips()), expected, rtol=1e-5, atol=1e-5
    )


def test_attentive_probe_equals_torch():
    """Query, cross-attention, MLP: written again with PyTorch's modules."""
    torch = pytest.importorskip("torch")
    model = AttentiveProbe(Backbone(), num_classes=5, num_heads=2)
    variables = model.init(jax.random.key(0), clips())
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda p: rng.standard_normal(p.shape).astype(np.float32) / 2,
        variables["params"],
    )
    variables = {**variables, "params": params}
    inner = {k: v["backbone"] for k, v in variables.items()}
    features = Backbone().apply(inner, clips(), method="features")
    y = torch.tensor(np.asarray(features).reshape(2, -1, 8))

    def dense(name, x):
        p = params[name]
        return x @ torch.tensor(p["kernel"]) + torch.tensor(p["bias"])

    def norm(name, x):
        scale, bias = (torch.tensor(params[name][k]) for k in ("scale", "bias"))
        return torch.nn.functional.layer_norm(x, (8,), scale, bias, 1e-6)

    query = torch.tensor(params["query"]).expand(2, 1, 8)
    y = norm("norm1", y)
    q, k, v = (
        dense(n, z).reshape(2, -1, 2, 4).transpose(1, 2)
        for n, z in (("q", query), ("k", y), ("v", y))
    )
    found = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    query = query + dense("proj", found.transpose(1, 2).reshape(2, 1, 8))
    hidden = torch.nn.functional.gelu(dense("fc1", norm("norm2", query)))
    expected = dense("head", (query + dense("fc2", hidden))[:, 0])
    np.testing.assert_allclose(
        model.apply(variables, clips()), expected.numpy(), rtol=1e-4, atol=1e-4
    )


def test_probes_by_name():
    fields = {"name": "uniformer_s", "depth": [1, 1, 1, 1], "num_classes": None}
    fields["embed_dim"] = (8, 8, 16, 16)
    model = create_model(
        "attentive_probe",
        backbone=fields | {"head_dim": 8},
        num_classes=7,
        dtype=jnp.bfloat16,
    )
    assert model.backbone.depth == (1, 1, 1, 1)
    assert model.backbone.num_classes == 400
    assert model.backbone.dtype == jnp.bfloat16
    hash(model)  # a static argument of jit
    x = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    logits = jax.eval_shape(model.apply, shapes, x)
    assert (logits.shape, logits.dtype) == ((1, 7), jnp.float32)
    assert "patch_embed1" in shapes["params"]["backbone"]


def test_backbones_that_do_not_work():
    with pytest.raises(UserError, match="model.backbone has no name"):
        create_model("linear_probe", backbone={"depth": 1})
    with pytest.raises(UserError, match="did you mean 'uniformer_s'"):
        create_model("linear_probe", backbone={"name": "uniformer_"})
    with pytest.raises(UserError, match="field of model 'uniformer_s' 'deepth'"):
        create_model("linear_probe", backbone={"name": "uniformer_s", "deepth": 1})
    with pytest.raises(UserError, match=r"needs model\.backbone; set it"):
        create_model("linear_probe")
    with pytest.raises(UserError, match="Dense has no method features"):
        jax.eval_shape(LinearProbe(nn.Dense(3)).init, jax.random.key(0), clips())
    with pytest.raises(UserError, match="num_heads=3 does not divide the 8 channels"):
        probe = AttentiveProbe(Backbone(), num_heads=3)
        jax.eval_shape(probe.init, jax.random.key(0), clips())


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's, importable as ``own_nets``."""
    (tmp_path / "own_nets.py").write_text(
        textwrap.dedent(
            """
            import flax.linen as nn

            class Tiny(nn.Module):
                num_classes: int
                width: int = 4
                rates: tuple = (0.1, 0.2)

                @nn.compact
                def __call__(self, x, *, train=False):
                    x = nn.Dense(self.width)(x.mean((1, 2, 3)))
                    return nn.Dense(self.num_classes)(x)

            def function():
                pass
            """
        )
    )
    (tmp_path / "own_broken.py").write_text("import nothing_like_it\n")
    (tmp_path / "own_wordy.py").write_text("raise ValueError('two\\nlines')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("own_nets", "own_broken", "own_wordy"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("own")
def test_a_module_of_the_users_own():
    model = create_model("own_nets:Tiny", num_classes=3, width=2)
    variables = model.init(jax.random.key(0), clips())
    assert model.apply(variables, clips()).shape == (2, 3)
    assert list(model_fields("own_nets:Tiny")) == ["num_classes", "width", "rates"]
    assert model_fields("own_nets:Tiny")["rates"] == (0.1, 0.2)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("own_nest:Tiny", {}, "cannot import 'own_nest' .*PYTHONPATH"),
        ("own_broken:Tiny", {}, "No module named 'nothing_like_it'"),
        ("own_wordy:Tiny", {}, "ValueError: two lines"),
        ("own_nets:Tinny", {}, "class in own_nets 'Tinny'; did you mean 'Tiny'"),
        ("own_nets:function", {}, "not a subclass of flax.linen.Module"),
        ("own_nets:Tiny", {"widht": 2}, "did you mean 'width'"),
        ("own_nets:Tiny", {}, "needs model.num_classes; set it"),
        (":Tiny", {}, "cannot import ''"),
    ],
)
def test_modules_that_do_not_work(name, fields, message):
    with pytest.raises(UserError, match=message) as error:
        create_model(name, **fields)
    assert "\n" not in str(error.value)
