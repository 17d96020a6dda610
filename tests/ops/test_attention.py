"""Every implementation of attention computes the same sums, value and gradient."""

import re
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from stjax.errors import UserError
from stjax.ops import splash
from stjax.ops.attention import attention
from stjax.sharding.mesh import make_mesh


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@partial(jax.jit, static_argnums=(0, 2))
def with_gradient(impl, args, chunk=None):
    """The output, and the gradient of a weighted sum of it in q, k, v and bias."""

    def one(*args):
        y = attention(*args[:3], scale=0.5, bias=args[3], impl=impl, chunk=chunk)
        return (y * jnp.sin(jnp.arange(y.size).reshape(y.shape))).sum(), y

    argnums = range(3 if args[3] is None else 4)
    return jax.grad(one, argnums, has_aux=True)(*args)


@pytest.mark.parametrize(
    "bias_shape,chunk",
    [(None, 3), (None, 100), ((3, 7, 5), 2), ((2, 1, 1, 5), 3), ((7, 1), 1)],
)
def test_chunks_equal_dense_in_value_and_gradient(bias_shape, chunk):
    args = [normal(2, 7, 3, 4), normal(2, 5, 3, 4), normal(2, 5, 3, 6)]
    args.append(None if bias_shape is None else normal(*bias_shape))
    with jax.enable_x64(True):
        dense = with_gradient("dense", args)
        other = with_gradient("chunked", args, chunk)
    logits = 0.5 * np.einsum("bnhd,bmhd->bhnm", *args[:2])
    weights = np.exp(logits if args[3] is None else logits + args[3])
    weights /= weights.sum(-1, keepdims=True)
    y = np.einsum("bhnm,bmhe->bnhe", weights, args[2])
    np.testing.assert_allclose(dense[1], y, atol=1e-13)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), other, dense
    )


def test_chunks_of_minus_infinity():
    """A first chunk that a mask hides altogether leaves no NaN."""
    q, k, v = normal(1, 3, 1, 4), normal(1, 4, 1, 4), normal(1, 4, 1, 2)
    bias = np.array([-np.inf, -np.inf, 0.0, 1.0])
    args = [jnp.asarray(x, jnp.float32) for x in (q, k, v, bias)]
    dense, other = with_gradient("dense", args), with_gradient("chunked", args, 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), other, dense)


def test_chunks_in_bfloat16():
    """As far from float32 as the dense form is: a few roundings of 2^-9."""
    rng = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(rng.standard_normal((2, 50, 1, 8)), jnp.bfloat16) for _ in range(3)
    )
    exact = with_gradient("dense", [x.astype(jnp.float32) for x in (q, k, v)] + [None])
    other = with_gradient("chunked", (q, k, v, None), 16)
    for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(exact), strict=True):
        assert a.dtype == jnp.bfloat16
        assert np.abs(np.float32(a) - b).max() < 0.01 * np.abs(b).max()


def shapes_of(fn, *args):
    """Every array in the jaxpr, the ones in its loops included."""
    text = str(jax.make_jaxpr(fn)(*args))
    return [
        [int(n) for n in found.split(",")]
        for found in re.findall(r"\w\[([\d,]+)\]", text)
    ]


def test_no_array_of_all_pairs_forward_or_backward():
    q = jax.ShapeDtypeStruct((1, 12544, 1, 8), jnp.float32)
    k = jax.ShapeDtypeStruct((1, 3136, 1, 8), jnp.float32)

    def largest(impl):
        def one(q, k):
            return attention(q, k, k, impl=impl).sum()

        return max(np.prod(s) for s in shapes_of(jax.grad(one, (0, 1)), q, k))

    assert largest("dense") == 12544 * 3136
    assert largest("chunked") <= 1024**2


@pytest.mark.parametrize("n,loops", [(1024, False), (2048, True)])
def test_auto_goes_in_chunks_when_the_logits_are_many(n, loops):
    x = jax.ShapeDtypeStruct((1, n, 8, 16), jnp.float32)  # 8 n^2 logits, 2^24 at most
    text = jax.jit(lambda x: attention(x, x, x)).lower(x).as_text()
    assert ("while" in text) == loops


def lowered(platform, n, m, d, dtype=jnp.float32, mesh=None, batch=8):
    def one(q, k, v):
        return attention(q, k, v).astype(jnp.float32).sum()

    args = [jax.ShapeDtypeStruct((batch, length, 2, d), dtype) for length in (n, m, m)]
    with jax.set_mesh(mesh or make_mesh(1, devices=jax.devices()[:1])):
        traced = jax.jit(jax.value_and_grad(one, (0, 1, 2))).trace(*args)
        return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    "n,m,d,kernel",
    [
        (1568, 1568, 64, True),  # stage 3 of UniFormer-S, 16 frames
        (3136, 784, 256, True),  # res3 of I3D, 32 frames; neither length is of blocks
        (784, 196, 512, False),  # res4: small
        (3136, 784, 1024, False),  # Gaussian at res4: heads are too large
        (2048, 2048, 16, False),  # or too small
    ],
)
def test_auto_is_splash_where_lowered_for_a_tpu(n, m, d, kernel):
    assert ("tpu_custom_call" in lowered("tpu", n, m, d)) == kernel
    assert "tpu_custom_call" not in lowered("cpu", n, m, d)


def test_splash_under_a_mesh_is_mapped_over_the_devices():
    mesh = make_mesh(2, 2, 2)
    text = lowered("tpu", 1568, 1568, 64, jnp.bfloat16, mesh)
    calls = [line for line in text.splitlines() if "@tpu_custom_call" in line]
    # The first call is the forward pass: 8 / (data 2, fsdp 2) clips, one of two heads,
    # 1,568 queries and keys in 2 blocks of 896.
    assert "tensor<2x1x1792x128xbf16>, tensor<2x1x1792x128xbf16>" in calls[0]
    # 4 devices do not divide 2 heads: 1,568 / 4 queries in one block.
    text = lowered("tpu", 1568, 1568, 64, jnp.bfloat16, make_mesh(2, 1, 4))
    calls = [line for line in text.splitlines() if "@tpu_custom_call" in line]
    assert "tensor<4x2x512x128xbf16>, tensor<4x2x1792x128xbf16>" in calls[0]
    # A batch that cannot be split: chunked or dense, whatever the platform.
    assert "tpu_custom_call" not in lowered("tpu", 1568, 1568, 64, mesh=mesh, batch=6)


def test_splash_blocks_are_large_and_pad_little():
    blocks = {3136: 640, 784: 896, 1024: 512, 1280: 640, 128: 128}
    half = {n: splash.blocks_for(n, n, 64, 64, jnp.bfloat16) for n in blocks}
    assert half == {n: splash.Blocks(b, b, True) for n, b in blocks.items()}


@pytest.mark.parametrize(
    "n,m,d,dtype,blocks",
    [
        (3136, 3136, 64, jnp.bfloat16, (640, 640, True)),
        (3136, 3136, 64, jnp.float32, (640, 640, False)),  # 16.9 of 16 MiB
        (3136, 1900, 256, jnp.bfloat16, (640, 640, False)),  # 16.4
        (784, 784, 512, jnp.bfloat16, (512, 512, False)),  # 17.2
        (12544, 784, 256, jnp.bfloat16, (896, 896, True)),  # fits
    ],
)
def test_splash_keeps_all_keys_where_the_compiler_finds_room(n, m, d, dtype, blocks):
    """Figures of the TPU compiler, in its message or by compiling, for the kernel."""
    assert splash.blocks_for(n, m, d, d, dtype) == splash.Blocks(*blocks)


@pytest.mark.parametrize("room", [splash._VECTOR_MEMORY, 0])
def test_splash_interpreted(monkeypatch, room):
    """The kernel in Pallas' interpreter: padding, and clips and queries over a mesh.

    All keys at once, and in blocks with a kernel of its own for each gradient.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as lib

    make = lib.make_splash_mha
    monkeypatch.setattr(splash, "_VECTOR_MEMORY", room)
    monkeypatch.setattr(
        lib, "make_splash_mha", lambda *a, **kw: make(*a, interpret=True, **kw)
    )
    args = [normal(2, 150, 1, 32), normal(2, 140, 1, 32), normal(2, 140, 1, 40), None]
    args[:3] = [jnp.asarray(x, jnp.float32) for x in args[:3]]
    dense = with_gradient("dense", args)
    with jax.set_mesh(make_mesh(2, 1, 2, devices=jax.devices()[:4])):
        other = with_gradient("splash", args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), other, dense)


def test_chunked_keeps_the_batch_where_it_is():
    mesh = make_mesh(8)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    x = jax.ShapeDtypeStruct((8, 100, 1, 8), jnp.float32, sharding=sharding)

    def one(x):
        return attention(x, x, x, impl="chunked", chunk=32)

    gradient = jax.jit(jax.grad(lambda x: one(x).sum()))
    text = gradient.lower(x).compile().as_text()
    names = r"(all-gather|all-reduce|all-to-all|collective-permute)(?:-start)?\("
    assert not Counter(re.findall(names, text))


def test_softmax_is_float32_in_bfloat16():
    """Logits beyond bfloat16's 8 bits still tell two keys apart."""
    q = jnp.full((1, 1, 1, 1), 256.0, jnp.bfloat16)
    k = jnp.array([1.0, 1.0078125], jnp.bfloat16).reshape(1, 2, 1, 1)
    v = jnp.array([0.0, 1.0], jnp.bfloat16).reshape(1, 2, 1, 1)
    for impl in ("dense", "chunked"):
        y = attention(q, k, v, impl=impl)
        assert y.dtype == jnp.bfloat16
        assert abs(float(y[0, 0, 0, 0]) - 1 / (1 + np.exp(-2.0))) < 0.004


def test_bad_arguments():
    x = jnp.zeros((1, 2, 1, 64))
    half = x.astype(jnp.bfloat16)
    with pytest.raises(UserError, match="did you mean 'splash'"):
        attention(x, x, x, impl="flash")
    with pytest.raises(UserError, match="64 channels in float32; .* impl='chunked'"):
        attention(x, x, x, impl="cudnn")
    with pytest.raises(UserError, match="heads of 512"):
        attention(*[jnp.zeros((1, 2, 1, 512), jnp.bfloat16)] * 3, impl="cudnn")
    if jax.devices()[0].platform == "cpu":
        with pytest.raises(UserError, match="cannot be used here .*cuDNN"):
            attention(half, half, half, impl="cudnn")
    with pytest.raises(UserError, match="no bias"):
        attention(x, x, x, bias=jnp.zeros(2), impl="splash")
    with pytest.raises(UserError, match="it takes 32 to 512"):
        attention(*[x[..., :8]] * 3, impl="splash")
