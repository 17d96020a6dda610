"""Freezing by name and layer-wise learning rates, against closed forms and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stjax.errors import UserError
from stjax.optim import create_optimizer, global_norm
from stjax.param_groups import layer_indices, layer_scales, names


def tree(*paths):
    """Parameters [2, 2] of these names."""
    rng = np.random.default_rng(0)
    params = {}
    for path in paths:
        *modules, leaf = path.split("/")
        node = params
        for module in modules:
            node = node.setdefault(module, {})
        node[leaf] = jnp.asarray(rng.standard_normal((2, 2)), jnp.float32)
    return params


def by_name(params):
    return dict(zip(names(params), jax.tree.leaves(params), strict=True))


def uniformer(depth=(3, 4, 8, 3)):
    paths = ["norm/scale", "head/kernel", "head/bias"]
    for stage, blocks in enumerate(depth, 1):
        paths += [f"patch_embed{stage}/proj/kernel", f"patch_embed{stage}/norm/scale"]
        paths += [f"blocks{stage}_{i}/attn/kernel" for i in range(blocks)]
    return tree(*paths)


RESNET = (
    "s1/pathway0_stem/conv/kernel",
    "s2/pathway0_res0/branch2/a/kernel",
    "s3/pathway0_res1/branch2/a/kernel",
    "s3/pathway0_nonlocal1/conv_theta/kernel",
    "s4/pathway0_res0/branch2/a/kernel",
    "s5/pathway0_res2/branch2/a/kernel",
    "head/projection/kernel",
)


def test_names_are_paths():
    assert names(tree("b/c", "a")) == ["a", "b/c"]


def test_layers_of_uniformer():
    found = layer_indices(uniformer())
    assert found["patch_embed1/proj/kernel"] == 0
    assert found["blocks1_0/attn/kernel"] == 1
    assert found["patch_embed2/norm/scale"] == found["blocks2_0/attn/kernel"] == 4
    assert found["blocks2_3/attn/kernel"] == 7
    assert found["patch_embed3/proj/kernel"] == found["blocks3_0/attn/kernel"] == 8
    assert found["blocks4_2/attn/kernel"] == 18
    assert found["norm/scale"] == found["head/kernel"] == found["head/bias"] == 19


def test_ten_blocks_are_in_numeric_order():
    found = layer_indices(uniformer((1, 1, 12, 1)))
    blocks = [found[f"blocks3_{i}/attn/kernel"] for i in range(12)]
    assert blocks == list(range(3, 15))


def test_layers_of_a_resnet():
    found = layer_indices(tree(*RESNET))
    assert [found[path] for path in RESNET] == [0, 1, 2, 2, 3, 4, 5]


def test_layers_of_a_backbone_inside_a_probe():
    found = layer_indices(tree(*(f"backbone/{path}" for path in RESNET[:-1]), "head/w"))
    assert [found[f"backbone/{path}"] for path in RESNET[:-1]] == [0, 1, 2, 2, 3, 4]
    assert found["head/w"] == 5


def test_scales_are_those_of_beit():
    # BEiT-B: 12 blocks; values decay ** (13 - i), i = 0 the embedding, 13 the head.
    order = (r"^(?:patch_embed|cls_token)", r"^blocks_(\d+)/")
    params = tree(
        "patch_embed/kernel", *(f"blocks_{i}/w" for i in range(12)), "norm/w", "head/w"
    )
    scales = layer_scales(params, 0.65, order)
    assert scales["head"]["w"] == scales["norm"]["w"] == 1
    assert scales["patch_embed"]["kernel"] == pytest.approx(0.65**13, rel=1e-12)
    for i in range(12):
        assert scales[f"blocks_{i}"]["w"] == pytest.approx(0.65 ** (12 - i), rel=1e-12)


PATHS = ("s1/w", "s2/w", "s2/bn/w", "s3/w", "head/w")


def run(optimizer, params, grads):
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for grad in grads:
        updates, state = update(grad, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def some_grads(params, steps=8):
    rng = np.random.default_rng(1)
    return [
        jax.tree.map(lambda p: rng.standard_normal(p.shape).astype(np.float32), params)
        for _ in range(steps)
    ]


RULES = [
    ("adamw", {"weight_decay": 0.1}),
    ("adam", {"weight_decay": 0.1}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("name", "fields"), RULES)
def test_groups_equal_those_of_torch(name, fields):
    """Layers s1 ... s3 and the head have 1/8, 1/4, 1/2 and 1 of the rate; s1 frozen."""
    torch = pytest.importorskip("torch")
    params = tree(*PATHS)
    grads = some_grads(params)
    optimizer = create_optimizer(
        name,
        lr=0.05,
        total_steps=8,
        clip=1.0,
        freeze=("^s1/",),
        layer_decay=0.5,
        **fields,
    )
    ours, _ = run(optimizer, params, grads)
    values = {
        k: torch.nn.Parameter(torch.tensor(np.asarray(v, np.float64)))
        for k, v in by_name(params).items()
    }
    rates = {"s2/w": 1 / 4, "s2/bn/w": 1 / 4, "s3/w": 1 / 2, "head/w": 1}
    groups = [{"params": [values[k]], "lr": 0.05 * s} for k, s in rates.items()]
    make = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}[name]
    theirs = getattr(torch.optim, make)(groups, lr=0.05, **fields)
    for grad in grads:
        for k, g in by_name(grad).items():
            values[k].grad = torch.tensor(g.astype(np.float64))
        torch.nn.utils.clip_grad_norm_([values[k] for k in rates], 1.0)
        theirs.step()
    for k, v in by_name(ours).items():
        np.testing.assert_allclose(v, values[k].detach(), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "fields"), RULES)
def test_frozen_parameters_keep_their_bits_and_have_no_moments(name, fields):
    params = tree(*PATHS)
    optimizer = create_optimizer(
        name, lr=0.1, total_steps=8, freeze=("^s1/", "bn/"), **fields
    )
    after, state = run(optimizer, params, some_grads(params))
    for path in ("s1/w", "s2/bn/w"):
        before, now = (by_name(p)[path] for p in (params, after))
        np.testing.assert_array_equal(before, now)
    assert names(state.mu) == ["head/w", "s2/w", "s3/w"]
    assert not np.array_equal(after["head"]["w"], params["head"]["w"])


def test_the_clipped_norm_is_that_of_the_trained_part():
    params = {"a": {"w": jnp.zeros(2)}, "head": {"w": jnp.zeros(2)}}
    grads = {"a": {"w": jnp.full(2, 1e6)}, "head": {"w": jnp.asarray([3.0, 4.0])}}
    optimizer = create_optimizer(
        "sgd", lr=1.0, total_steps=1, clip=10.0, freeze=("^a/",)
    )
    assert global_norm(optimizer.trained(grads)) == 5
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_array_equal(updates["head"]["w"], [-3.0, -4.0])
    np.testing.assert_array_equal(updates["a"]["w"], 0)


def test_without_groups_everything_is_trained():
    params = tree(*PATHS)
    optimizer = create_optimizer("sgd", lr=1.0, total_steps=1)
    assert optimizer.trained(params) is params


def test_gradients_of_frozen_parameters_are_not_computed():
    """XLA drops them: one matrix product less in the compiled step."""

    def products(freeze):
        optimizer = create_optimizer("sgd", lr=0.1, total_steps=1, freeze=freeze)

        def step(params, state, x):
            def loss(params):
                return jnp.sum(jnp.tanh(x @ params["s1"]["w"]) @ params["head"]["w"])

            grads = jax.grad(loss)(params)
            updates, _ = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates)

        params = {"s1": {"w": jnp.ones((8, 8))}, "head": {"w": jnp.ones((8, 8))}}
        text = (
            jax.jit(step)
            .lower(params, optimizer.init(params), jnp.ones((8, 8)))
            .compile()
            .as_text()
        )
        return text.count(" dot(")

    assert products(("^s1/",)) < products(())


def test_errors_name_parameters_that_are_like_it():
    def start(**fields):
        optimizer = create_optimizer("sgd", lr=0.1, total_steps=1, **fields)
        optimizer.init(params)
        optimizer.update(params, optimizer.init(params), params)

    params = tree(*RESNET)
    with pytest.raises(UserError, match=r"'\^s6/' matches no parameter; there are s"):
        start(freeze=("^s6/",))
    with pytest.raises(UserError, match="no parameter; there are head"):
        start(freeze=("^head/proj/",))
    with pytest.raises(UserError, match="matches every parameter"):
        start(freeze=("kernel", "^s1"))
    with pytest.raises(UserError, match="no regular expression"):
        start(freeze=("s1(",))
    with pytest.raises(UserError, match="must be above 0, at most 1"):
        start(layer_decay=1.5)
    params = tree("dense/w")
    with pytest.raises(UserError, match="give the model's class a layer_order"):
        start(layer_decay=0.5)
    start(layer_decay=0.5, layer_order=("^dense/",))
    with pytest.raises(UserError, match="did you mean 'layer_decay'"):
        start(layer_decays=0.5)


def test_a_single_expression_may_be_a_string():
    params = tree(*PATHS)
    optimizer = create_optimizer("sgd", lr=0.1, total_steps=1, freeze="^s1/")
    assert "s1" not in optimizer.trained(params)
