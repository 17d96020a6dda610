"""Projections around the splash kernel, a plain attention in the kernel's place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.layers.self_attention import SelfAttention
from stjax.ops import depthwise_plan, splash_projected
from stjax.ops.splash import Blocks
from stjax.sharding.mesh import make_mesh

BATCH, TOKENS, WIDTH, HEADS = 4, 130, 96, 3


def plain_kernel(q, k, v, keys, blocks):
    """What `stjax.ops.splash.padded_splash` computes."""
    assert q.shape == (*q.shape[:2], 256, 128) and blocks == Blocks(256, 256, True)
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k)
    logits = jnp.where(jnp.arange(k.shape[2]) < keys, logits, -jnp.inf)
    return jnp.einsum("bhnm,bhme->bhne", jax.nn.softmax(logits), v)


@pytest.fixture
def weights(monkeypatch):
    """A layer's parameters; the kernel replaced."""
    monkeypatch.setattr(splash_projected, "padded_splash", plain_kernel)
    monkeypatch.setattr(depthwise_plan, "_has_compiler", lambda: False)
    x = jax.random.normal(jax.random.key(0), (BATCH, TOKENS, WIDTH))
    params = SelfAttention(HEADS).init(jax.random.key(1), x)["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    drawn = [
        jax.random.normal(k, v.shape) * 0.1 for k, v in zip(keys, leaves, strict=1)
    ]
    return x, jax.tree.unflatten(tree, drawn)


def by_hand(params, x):
    given = [params[m][p] for m in ("qkv", "proj") for p in ("kernel", "bias")]
    return splash_projected.projected(x, *given, heads=HEADS)


def with_gradient(f, *args):
    def loss(*args):
        y = f(*args)
        return jnp.sum(jnp.sin(y)), y

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(*args)


def test_equal(weights):
    x, params = weights

    def layer(params, x):
        return SelfAttention(HEADS).apply({"params": params}, x)

    want = with_gradient(layer, params, x)
    alone = with_gradient(by_hand, params, x)
    with jax.set_mesh(make_mesh(data=2, fsdp=1, space=1, devices=jax.devices()[:2])):
        shared = with_gradient(by_hand, params, x)
    for got in (alone, shared):
        jax.tree.map(close, got, want)


def close(got, want):
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 2e-6 * np.abs(want).max()


def test_chosen_where_lowered_for_a_tpu(monkeypatch):
    monkeypatch.setattr(depthwise_plan, "_has_compiler", lambda: True)

    def lowered(platform, tokens):
        layer = SelfAttention(2, jnp.bfloat16)
        x = jax.ShapeDtypeStruct((2, tokens, 128), jnp.bfloat16)
        params = jax.eval_shape(layer.init, jax.random.key(0), x)
        f = jax.jit(layer.apply).trace(params, x)
        return f.lower(lowering_platforms=(platform,)).as_text()

    assert "2x2x1280x128xbf16" in lowered("tpu", 1200)
    assert "custom_call" not in lowered("tpu", 200)
    assert "1280" not in lowered("cpu", 1200)
    monkeypatch.setenv("STJAX_TPU_KERNELS", "0")
    assert "2x2x1280x128xbf16" in lowered("tpu", 1200)  # the kernel alone, as before
