"""Every form of a non-local aggregate equals its formula, value and gradient."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from stjax.errors import UserError
from stjax.ops import concatenation
from stjax.ops.pairwise import IMPLS, PAIRWISE, aggregate
from stjax.sharding.mesh import make_mesh

FORMS = [
    ("embedded_gaussian", ("chunked", "auto")),
    ("gaussian", ("auto",)),
    ("dot_product", ("linear", "auto")),
    ("concatenation", ("outer", "sorted", "auto")),
]


def arrays(n, m, d, e, pairwise, dtype=np.float64, batch=2):
    rng = np.random.default_rng(n + 7 * m)
    shapes = [(batch, n, d), (batch, m, d), (batch, m, e)]
    args = [jnp.asarray(rng.standard_normal(s), dtype) for s in shapes]
    weight = jnp.asarray(rng.standard_normal(2 * d), dtype)
    return [*args, weight if pairwise == "concatenation" else None]


def run(pairwise, impl, args):
    """The aggregate, and the gradient of a weighted sum of it in all that it takes."""

    def one(*args):
        kw = {"scale": 0.3, "weight": args[3], "pairwise": pairwise, "impl": impl}
        y = aggregate(*args[:3], **kw)
        return (y * jnp.sin(jnp.arange(y.size).reshape(y.shape))).sum(), y

    argnums = range(3 if args[3] is None else 4)
    return jax.jit(jax.grad(one, argnums, has_aux=True))(*args)


def formula(theta, phi, g, weight, pairwise):
    """Equations 2 to 5, in numpy."""
    f = np.einsum("bnd,bmd->bnm", theta, phi)
    if pairwise == "dot_product":
        return f @ g / phi.shape[1]
    if pairwise == "concatenation":
        d = theta.shape[-1]
        f = (theta @ weight[:d])[:, :, None] + (phi @ weight[d:])[:, None]
        return np.maximum(f, 0) @ g / phi.shape[1]
    f = np.exp(0.3 * f)
    return f / f.sum(-1, keepdims=True) @ g


@pytest.mark.parametrize("n,m,d,e", [(5, 7, 4, 6), (33, 20, 4, 3)])
@pytest.mark.parametrize("pairwise,impls", FORMS)
def test_forms_are_equal(pairwise, impls, n, m, d, e, monkeypatch):
    monkeypatch.setattr(concatenation, "CHUNK", 3 * m)  # 3 queries, the last ragged
    assert set(impls) <= set(IMPLS[pairwise])
    with jax.enable_x64(True):
        args = arrays(n, m, d, e, pairwise)
        dense = run(pairwise, "dense", args)
        others = [run(pairwise, impl, args) for impl in impls]
    numpy = [None if x is None else np.asarray(x) for x in args]
    np.testing.assert_allclose(dense[1], formula(*numpy, pairwise), atol=1e-13)
    for other in others:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            other,
            dense,
        )


def test_sorted_is_accurate_in_float32():
    """Prefix sums over 2,000 keys; theta and phi share an offset of 100.

    theta and phi are multiples of 1/64, half a step apart, so that no rounding moves a
    pair across the kink of the ReLU. Against float64.
    """
    theta, phi, g, _ = arrays(300, 2000, 1, 8, "concatenation", np.float32, 1)
    theta = jnp.round(theta * 64) / 64 + 1 / 128 + 100
    phi = jnp.round(phi * 64) / 64 - 100
    args = [theta, phi, g, jnp.ones(2)]
    got = run("concatenation", "sorted", args)
    with jax.enable_x64(True):
        args = [x.astype(jnp.float64) for x in args]
        exact = run("concatenation", "outer", args)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True):
        b = np.asarray(b)
        assert np.abs(np.asarray(a) - b).max() < 1e-5 * np.abs(b).max()


def test_positions_that_see_nobody_or_tie():
    """All inactive, all equal, and sums of exactly zero, where ReLU has no slope."""
    theta = jnp.array([[[-9.0], [1.0], [-1.0], [0.0]]])
    phi = jnp.array([[[1.0], [1.0], [-1.0]]])
    g = jnp.array([[[1.0], [2.0], [4.0]]])
    args = [theta, phi, g, jnp.ones(2)]
    for impl in ("dense", "outer", "sorted"):
        (dtheta, *_), y = run("concatenation", impl, args)
        np.testing.assert_allclose(y[0, :, 0], [0.0, 2.0, 0.0, 1.0], atol=1e-6)
        slope = np.sin(np.arange(4.0)) * np.array([0.0, 1.0, 0.0, 1.0])
        np.testing.assert_allclose(dtheta[0, :, 0], slope, atol=1e-6)


@pytest.mark.parametrize("pairwise,impls", FORMS)
def test_bfloat16(pairwise, impls):
    args = arrays(20, 30, 4, 5, pairwise, jnp.bfloat16)
    exact = [None if x is None else np.float32(x) for x in args]
    exact = run(pairwise, "dense", exact)
    for impl in ("dense", *impls[:-1]):
        for a, b in zip(
            jax.tree.leaves(run(pairwise, impl, args)),
            jax.tree.leaves(exact),
            strict=True,
        ):
            assert a.dtype == jnp.bfloat16
            assert np.abs(np.float32(a) - b).max() < 0.02 * np.abs(b).max()


@pytest.mark.parametrize("pairwise", PAIRWISE)
def test_auto_holds_no_affinity(pairwise):
    """128 frames at res3: N M = 39 million is in no array, forward or backward."""
    n, m, d = 12544, 3136, 256
    shapes = [(1, n, d), (1, m, d), (1, m, d), (2 * d,)]
    args = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in shapes]

    def one(theta, phi, g, weight):
        weight = weight if pairwise == "concatenation" else None
        return aggregate(theta, phi, g, pairwise=pairwise, weight=weight).sum()

    text = str(jax.make_jaxpr(jax.grad(one, (0, 1, 2)))(*args))
    shapes = re.findall(r"\w\[([\d,]+)\]", text)
    largest = max(np.prod([int(n) for n in shape.split(",")]) for shape in shapes)
    assert largest <= concatenation.CHUNK < n * m / 9


@pytest.mark.parametrize("pairwise", ["dot_product", "concatenation"])
def test_the_batch_stays_where_it_is(pairwise):
    mesh = make_mesh(8)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    args = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        for x in arrays(1100, 1000, 4, 3, pairwise, np.float32, 8)[:3]
    ]
    weight = jnp.ones(8) if pairwise == "concatenation" else None

    def one(theta, phi, g):
        return aggregate(theta, phi, g, pairwise=pairwise, weight=weight).sum()

    text = jax.jit(jax.grad(one, (0, 1, 2))).lower(*args).compile().as_text()
    assert not re.findall(
        r"(?:all-gather|all-to-all|collective-permute|all-reduce)", text
    )


def test_auto_by_shape():
    """Dot product: fewer multiply-adds; concatenation: sorted from 2^20 pairs on.

    On a TPU never: products are cheap there, and sorting is not.
    """

    def text(n, m, d, pairwise, platform="cpu"):
        args = arrays(n, m, d, d, pairwise, np.float32, batch=1)
        kw = {"pairwise": pairwise, "weight": args[3]}
        traced = jax.jit(lambda *args: aggregate(*args, **kw)).trace(*args[:3])
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert "1x40x40" not in text(40, 40, 4, "dot_product")
    assert "1x3x3x" in text(3, 3, 8, "dot_product")
    assert "sort" in text(1024, 1024, 4, "concatenation")
    assert "sort" not in text(1023, 1024, 4, "concatenation")
    assert "sort" not in text(1024, 1024, 4, "concatenation", "tpu")


def test_bad_arguments():
    x = jnp.zeros((1, 2, 2))
    with pytest.raises(UserError, match="did you mean 'gaussian'"):
        aggregate(x, x, x, pairwise="gausian")
    with pytest.raises(UserError, match="of dot_product 'linar'; did you mean"):
        aggregate(x, x, x, pairwise="dot_product", impl="linar")
    with pytest.raises(UserError, match=r"is None; expected \(4,\)"):
        aggregate(x, x, x, pairwise="concatenation")
    with pytest.raises(UserError, match=r"is \(4,\); expected None"):
        aggregate(x, x, x, weight=jnp.zeros(4))
