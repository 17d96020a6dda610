"""Hints where activations lie: rows, tokens and heads over devices."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from stjax.aot.hlo import collectives
from stjax.ops.attention import attention
from stjax.ops.pairwise import aggregate
from stjax.sharding import activations, ring
from stjax.sharding.activations import (
    clip_means,
    constrain,
    constrain_rows,
    devices_along,
    fold,
    splits_rows,
    unfold,
)
from stjax.sharding.mesh import make_mesh

BATCH = ("data", "fsdp")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def spec_of(function, x, mesh):
    """How the result of a jitted function lies on the mesh."""
    with jax.set_mesh(mesh):
        return jax.jit(function)(x).sharding


def test_nothing_happens_without_a_mesh():
    x = jnp.zeros((4, 2, 8, 8, 3))
    assert devices_along("everything") == 1 and not splits_rows(x.shape)
    for hint in (constrain_rows, lambda x: constrain(x, "batch", None, "height")):
        assert "sharding" not in str(jax.make_jaxpr(hint)(x))
    with jax.set_mesh(make_mesh(1, devices=jax.devices()[:1])):
        assert "sharding" not in str(jax.make_jaxpr(constrain_rows)(x))


def test_names_of_dimensions():
    mesh = make_mesh(2, 2, 2)
    x = jnp.zeros((4, 3, 6, 5))
    found = spec_of(lambda x: constrain(x, "batch", None, "height"), x, mesh)
    assert found.is_equivalent_to(NamedSharding(mesh, P(BATCH, None, "space")), 4)
    # 4 devices do not divide 6, nor 2 devices 3.
    found = spec_of(lambda x: constrain(x[:3], "batch", "heads", "height"), x, mesh)
    assert found.is_equivalent_to(NamedSharding(mesh, P(None, None, "space")), 4)


def test_means_for_a_classifier_lie_where_their_clips_do():
    """Also where the classifier's kernel is split, which has the means by channels."""
    mesh = make_mesh(2, 4)
    clips, kernel = normal(8, 2, 4, 4, 16), normal(16, 3)
    given = [
        jax.device_put(a, NamedSharding(mesh, spec))
        for a, spec in ((clips, P(BATCH)), (kernel, P("fsdp")))
    ]

    def loss(x, w):
        return (clip_means(x * x) @ w).sum()

    with jax.set_mesh(mesh):
        program = jax.jit(jax.grad(loss, (0, 1))).lower(*given).compile()
    assert "all-to-all" not in collectives(program)
    dx, dw = program(*given)
    expected = np.broadcast_to(kernel.sum(1) / 32 * 2 * clips, clips.shape)
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-7)
    assert dw.shape == kernel.shape


def test_dimensions_that_xla_may_split():
    """A hint about the batch leaves rows as they are."""
    mesh = make_mesh(2, 1, 4)
    x = jax.device_put(normal(4, 8, 3), NamedSharding(mesh, P(BATCH, "space")))
    for name, spec in (("any", P(BATCH, "space")), (None, P(BATCH))):
        found = spec_of(lambda x, name=name: constrain(x, "batch", name), x, mesh)
        assert found.is_equivalent_to(NamedSharding(mesh, spec), 3)


def test_nothing_happens_where_a_shard_map_has_the_devices():
    mesh = make_mesh(2, 2, 2)

    def local(x):
        assert devices_along("everything") == 1
        return constrain_rows(x)

    with jax.set_mesh(mesh):
        x = jnp.ones((4, 8, 8, 1))
        y = jax.shard_map(local, in_specs=P(BATCH), out_specs=P(BATCH))(x)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "batch, rows, reach, expected",
    [
        (8, 28, 9, P(BATCH, "space")),  # 9 + 7 + 9 rows are not all: halos
        (8, 24, 9, P((*BATCH, "space"))),  # 9 + 6 + 9 are: the batch moves
        (4, 24, 9, P(BATCH)),  # it cannot be split further
        (8, 40, 9, P(BATCH, "space")),  # the neighbours have enough
        (8, 14, 1, P((*BATCH, "space"))),  # 4 devices do not divide 14
        (8, 4, 1, P(BATCH, "space")),
    ],
)
def test_rows_are_split_where_halos_pay(batch, rows, reach, expected):
    mesh = make_mesh(2, 1, 4)
    x = jnp.zeros((batch, rows, 4, 2))
    found = spec_of(lambda x: constrain_rows(x, reach), x, mesh)
    assert found.is_equivalent_to(NamedSharding(mesh, expected), 4)


def test_what_is_not_split_is_logged_once(caplog, monkeypatch):
    monkeypatch.setattr(activations, "_logged", set())
    x = jax.ShapeDtypeStruct((8, 16, 4, 2), jnp.float32)
    with caplog.at_level(logging.INFO, "stjax"), jax.set_mesh(make_mesh(2, 1, 4)):
        for _ in range(2):
            jax.eval_shape(lambda x: constrain_rows(x, 9), x)
    (record,) = caplog.records
    assert "16 rows" in record.message and "4 devices" in record.message


@pytest.mark.parametrize("shape", [(4, 8, 6, 3), (4, 2, 8, 6, 3), (4, 2, 5, 6, 3)])
def test_tokens_and_back(shape):
    mesh, x = make_mesh(2, 1, 4), jnp.asarray(normal(*shape))
    with jax.set_mesh(mesh):
        tokens = jax.jit(fold)(x)
        back = jax.jit(lambda y: unfold(y, shape))(tokens)
    np.testing.assert_array_equal(back, x)
    split = shape[-3] % 4 == 0
    want = NamedSharding(mesh, P(BATCH, "space" if split else None))
    assert tokens.sharding.is_equivalent_to(want, 3) or not split
    np.testing.assert_array_equal(fold(x), x.reshape(4, -1, 3))  # without a mesh
    np.testing.assert_array_equal(unfold(fold(x), shape), x)


def attended(operation, mesh, *args):
    """Value and gradient, unsharded and sharded by tokens; and the collectives."""

    def both(*args):
        y, back = jax.vjp(operation, *args)
        return y, back(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    expected = jax.jit(both)(*args)
    sharding = NamedSharding(mesh, P(BATCH, "space"))
    with jax.set_mesh(mesh):
        args = jax.device_put(args, sharding)
        program = jax.jit(both).lower(*args).compile()
        found = program(*args)
    for got, want in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=3e-6)
    return set(collectives(program))


@pytest.mark.parametrize(
    "heads, keys, expected",
    [
        (4, 16, "all-to-all"),
        (1, 8, "collective-permute"),
        (3, 16, "collective-permute"),
    ],
)
def test_attention_over_tokens_on_several_devices(heads, keys, expected):
    """Heads are re-sharded where they divide; else keys go round in a ring."""
    args = normal(4, 16, heads, 8), normal(4, keys, heads, 8), normal(4, keys, heads, 5)

    def operation(q, k, v):
        return attention(q, k, v, scale=0.3, spread=True)

    assert attended(operation, make_mesh(2, 1, 4), *args) == {expected}


def test_ring_in_turns(monkeypatch):
    """As many queries at a time as logits may be held; a batch that is not split."""
    monkeypatch.setattr(ring, "MAX_LOGITS", 8)
    args = [jnp.asarray(normal(3, n, 1, 4, seed=n)) for n in (32, 16, 16)]

    def operation(q, k, v):
        return attention(q, k, v, spread=True)

    with jax.set_mesh(make_mesh(2, 1, 4)):
        assert "f32[3,1,2,4]" in str(jax.make_jaxpr(operation)(*args))
        found = jax.jit(operation)(*args)
    np.testing.assert_allclose(found, operation(*args), atol=1e-6)


def test_bias_or_odd_lengths_are_left_to_xla():
    q, bias = jnp.asarray(normal(4, 16, 3, 8)), jnp.asarray(normal(16, 16))
    with jax.set_mesh(make_mesh(2, 1, 4)):
        for args in ({"bias": bias}, {"k": q[:, :15]}):
            kw = {"k": q, "spread": True} | args
            text = str(
                jax.make_jaxpr(lambda q, kw=kw: attention(q, v=kw["k"], **kw))(q)
            )
            assert "ppermute" not in text and "sharding_constraint" not in text


def test_dot_product_sums_a_small_matrix_over_the_devices():
    args = normal(4, 16, 8), normal(4, 8, 8), normal(4, 8, 8)

    def operation(theta, phi, g):
        return aggregate(theta, phi, g, pairwise="dot_product", spread=True)

    assert attended(operation, make_mesh(2, 1, 4), *args) == {"all-reduce"}
