"""UniFormer's blocks: residual rules, initialisation, drop path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.layers.mhra import GlobalBlock, LocalBlock, SplitBlock

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 8)).astype(np.float32)
KEY = jax.random.key(0, impl="unsafe_rbg")


def init(block, x=X):
    return jax.jit(block.init, static_argnums=2)(KEY, x, False)


def apply(block, variables, x=X):
    return jax.jit(block.apply, static_argnums=2)(variables, x, False)


def zeroed(variables, *names):
    """Variables with these modules' parameters at zero."""

    def zero(path, leaf):
        return jnp.zeros_like(leaf) if {p.key for p in path} & set(names) else leaf

    return jax.tree_util.tree_map_with_path(zero, variables)


@pytest.mark.parametrize("cls", [GlobalBlock, SplitBlock])
def test_attention_reaches_everything_local_does_not(cls):
    """A change at one corner moves the other corner's output, in attention only."""
    other = X.copy()
    other[:, 0, 0, 0] += 1.0
    for block, reaches in ((cls(head_dim=4), True), (LocalBlock(kernel_size=3), False)):
        v = init(block)
        # The split block's temporal attention is born as zero.
        v = jax.tree.map(lambda p: p + 0.1, v)
        difference = np.abs(apply(block, v) - apply(block, v, other))
        assert (difference[:, -1, -1, -1].max() > 0) == reaches


def test_without_its_branches_a_block_adds_the_position_embedding():
    for block in (
        LocalBlock(kernel_size=3),
        GlobalBlock(head_dim=4),
        SplitBlock(head_dim=4),
    ):
        v = init(block)
        still = zeroed(v, "attn", "conv2", "proj", "fc2")
        y = apply(block, still)
        plain = apply(block.clone(dpe=False), still)
        np.testing.assert_allclose(plain, X)
        kernel = v["params"]["pos_embed"]["kernel"]
        bias = v["params"]["pos_embed"]["bias"]
        centre = np.pad(X, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))[:, 1:4, 1:4, 1:4]
        expected = X[:, 1, 1, 1] + (centre * kernel[:, :, :, 0]).sum((1, 2, 3)) + bias
        np.testing.assert_allclose(y[:, 1, 1, 1], expected, rtol=1e-4, atol=1e-5)


def test_split_residual_is_the_input():
    """Without spatial attention the temporal one has no effect."""
    block = SplitBlock(head_dim=4)
    v = jax.tree.map(lambda p: p + 0.1, init(block))
    without_space = zeroed(v, "attn")
    a = apply(block, without_space)
    b = apply(block, zeroed(without_space, "t_attn"))
    np.testing.assert_array_equal(a, b)
    assert np.abs(apply(block, v) - apply(block, zeroed(v, "t_attn"))).max() > 0


def test_initialisation():
    x = jnp.zeros((1, 2, 2, 2, 64))
    local = init(LocalBlock(), x)["params"]
    for name, fan_in in (("pos_embed", 27), ("attn", 125), ("conv1", 64)):
        for leaf in local[name].values():
            bound = fan_in**-0.5
            assert np.abs(leaf).max() <= bound
            assert np.isclose(np.std(leaf), bound / 3**0.5, rtol=0.3)
    whole = init(GlobalBlock(), x)["params"]
    for kernel in (whole["attn"]["qkv"]["kernel"], whole["mlp"]["fc1"]["kernel"]):
        assert np.isclose(np.std(kernel), 0.02, rtol=0.05)
    assert not whole["attn"]["qkv"]["bias"].any()
    t_attn = init(SplitBlock(), x)["params"]["t_attn"]
    assert not t_attn["qkv"]["kernel"].any() and (t_attn["proj"]["kernel"] == 1).all()


@pytest.mark.parametrize("cls", [LocalBlock, GlobalBlock, SplitBlock])
def test_drop_path(cls):
    """At rate near 1 training keeps only the position embedding."""
    fields = {"kernel_size": 3} if cls is LocalBlock else {"head_dim": 4}
    block = cls(drop_path_rate=1 - 1e-6, dpe=False, **fields)
    v = init(block)
    rngs = {"dropout": KEY}

    @jax.jit
    def train(v):
        return block.apply(v, X, True, rngs=rngs, mutable=["batch_stats"])[0]

    y = train(v)
    np.testing.assert_array_equal(y, X)
    assert np.abs(apply(block, v) - X).max() > 0
