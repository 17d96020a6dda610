"""Every implementation of a convolution equals XLA's own, in value and gradient."""

import dataclasses
import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from stjax.layers.common import conv, gelu
from stjax.ops.conv import conv_nd
from stjax.ops.depthwise import depthwise
from stjax.sharding.mesh import make_mesh


@dataclasses.dataclass(frozen=True)
class Case:
    """A convolution and the implementations that can compute it."""

    impls: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    strides: tuple[int, ...] = ()
    padding: object = "SAME"
    dilation: tuple[int, ...] = ()
    groups: int = 1
    lhs_dilation: tuple[int, ...] = ()

    def __str__(self):
        return (
            f"{self.impls.split()[0]}-{self.x}-{self.w}-{self.strides}-{self.padding}"
        )

    def call(self, x, w, impl):
        nd = len(self.x) - 2
        return conv_nd(
            x,
            w,
            self.strides or (1,) * nd,
            self.padding,
            lhs_dilation=self.lhs_dilation or None,
            rhs_dilation=self.dilation or None,
            feature_group_count=self.groups,
            impl=impl,
        )


Z2, T2 = ((0, 0), (0, 0)), ((2, 2), (1, 2))
S7 = ((2, 2), (3, 3), (3, 3))

CASES = [
    # Depthwise, 1-D to 3-D; asymmetric and negative padding; dilation; multiplier.
    Case("shift auto", (2, 9, 4), (4, 1, 4), groups=4),
    Case("shift auto", (2, 7, 6, 4), (3, 3, 1, 4), groups=4),
    Case("shift auto", (2, 7, 6, 4), (5, 2, 1, 4), (), ((2, 0), (0, 3)), groups=4),
    Case("shift auto", (2, 9, 8, 3), (3, 2, 1, 3), (), "VALID", (3, 2), groups=3),
    Case("shift auto", (2, 9, 8, 3), (3, 3, 1, 3), (), ((-1, 2), (4, -2)), groups=3),
    Case("shift auto", (2, 5, 5, 3), (3, 3, 1, 6), groups=3),
    Case("shift slices auto", (2, 4, 5, 5, 3), (3, 3, 3, 1, 3), groups=3),
    Case(
        "shift slices auto",
        (1, 5, 5, 4, 2),
        (2, 3, 3, 1, 4),
        padding=((1, 0), (0, 2), (3, 1)),
        dilation=(2, 1, 2),
        groups=2,
    ),
    Case("shift slices auto", (1, 4, 5, 5, 2), (3, 5, 5, 1, 2), groups=2),  # > 49 taps
    Case("auto", (2, 7, 7, 3), (3, 3, 1, 3), (2, 2), ((1, 1), (1, 1)), groups=3),
    Case("auto", (1, 9, 9, 2), (8, 8, 1, 2), groups=2),  # > 49 taps
    # Grouped.
    Case("split auto", (2, 5, 6, 4), (3, 3, 2, 6), groups=2),
    Case("split auto", (2, 7, 7, 6), (3, 3, 2, 9), (2, 1), ((1, 0), (2, 2)), (1, 2), 3),
    Case("split auto", (1, 3, 4, 4, 4), (3, 3, 3, 2, 4), groups=2),
    # Dense 3-D.
    Case("slices auto", (2, 4, 5, 5, 3), (3, 3, 3, 3, 4)),
    Case(
        "slices auto",
        (1, 6, 6, 5, 2),
        (2, 3, 3, 2, 3),
        (1, 2, 2),
        ((0, 1), (1, 1), (2, 0)),
        (2, 1, 1),
    ),
    Case("slices auto", (1, 6, 6, 5, 2), (3, 3, 3, 2, 3), (2, 2, 2), ((1, 1),) * 3),
    Case("slices auto", (1, 5, 4, 4, 2), (3, 1, 1, 2, 3)),
    # Data moved first: patches, few channels, only temporal, pointwise with strides.
    Case("cells frames auto", (2, 9, 8, 3), (2, 2, 3, 4), (2, 2), "VALID"),
    Case(
        "cells frames auto", (1, 5, 9, 8, 3), (3, 4, 4, 3, 4), (2, 4, 4), ((1, 1), *Z2)
    ),
    Case(
        "cells frames auto", (1, 5, 9, 8, 2), (3, 5, 5, 2, 4), (1, 2, 2), ((1, 1), *T2)
    ),
    Case(
        "cells frames auto",
        (1, 6, 7, 9, 2),
        (2, 3, 2, 2, 4),
        (2, 2, 3),
        dilation=(2, 1, 1),
    ),
    # Stems of video networks: odd frames, even and odd columns of the result.
    Case("cells frames auto", (2, 7, 8, 11, 3), (5, 7, 7, 3, 4), (2, 2, 2), S7),
    Case("cells frames auto", (1, 6, 9, 9, 3), (5, 7, 7, 3, 4), (1, 2, 2), S7),
    Case(
        "cells frames auto",
        (1, 9, 6, 8, 2),
        (3, 3, 3, 2, 4),
        (3, 2, 2),
        ((3, 1), (1, 0), (1, 2)),
        (2, 1, 1),
    ),
    Case("temporal auto", (2, 5, 3, 2, 4), (3, 1, 1, 4, 3)),
    Case(
        "temporal auto", (1, 5, 2, 2, 4), (2, 1, 1, 4, 4), (), ((2, 0), *Z2), (2, 1, 1)
    ),
    Case("strided auto", (1, 5, 4, 4, 2), (1, 1, 1, 2, 3), (2, 2, 3), "VALID"),
    Case("strided auto", (2, 5, 4, 2), (1, 1, 2, 3), (2, 2), "VALID"),
    # Pointwise, and nothing special.
    Case("dot auto", (2, 4, 5, 3), (1, 1, 3, 4), (), "VALID"),
    Case("dot auto", (2, 3, 4, 5, 3), (1, 1, 1, 3, 4)),
    Case("auto", (2, 4, 5, 3), (1, 1, 3, 4), (2, 2), "VALID"),
    Case("auto", (2, 4, 5, 3), (1, 1, 3, 4), (), ((1, 1), (0, 0))),
    Case("auto", (2, 6, 6, 3), (3, 3, 3, 4), (2, 2), ((1, 1), (1, 1))),
    # Transposed: input dilation, dense and depthwise.
    Case("auto", (2, 5, 4, 3), (3, 3, 3, 5), (), ((1, 2), (1, 2)), lhs_dilation=(2, 2)),
    Case(
        "auto",
        (2, 5, 4, 3),
        (3, 3, 1, 3),
        (),
        ((1, 2), (1, 2)),
        groups=3,
        lhs_dilation=(2, 2),
    ),
    # Dense: strides, dilation, asymmetric and negative padding.
    Case("auto", (2, 9, 4), (4, 4, 3), (3,)),
    Case("auto", (2, 9, 8, 3), (3, 3, 3, 5), (2, 2), ((1, 1), (1, 1))),
    Case("auto", (2, 9, 8, 3), (3, 2, 3, 5), (2, 3), ((0, 2), (1, 0)), (2, 1)),
    Case("auto", (2, 9, 8, 3), (3, 3, 3, 5), (1, 1), ((-1, 2), (4, -2))),
    Case("auto", (1, 4, 6, 5, 2), (1, 3, 3, 2, 3), (1, 2, 2)),
    Case("slices auto", (1, 5, 6, 4, 2), (1, 3, 3, 2, 3), (1, 2, 2)),
    Case("slices auto", (1, 5, 6, 4, 2), (1, 1, 1, 2, 3), (2, 2, 2), "VALID"),
    Case("slices auto", (1, 7, 4, 4, 2), (2, 1, 1, 2, 3), (3, 1, 1), ((0, 1),) * 3),
]


def normal(shape):
    """Drawn by numpy: compiling JAX's generator costs more than a convolution."""
    rng = np.random.default_rng(sum(shape))
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_implementation_is_the_native_one(case):
    x, w = normal(case.x), normal(case.w)
    shape = jax.eval_shape(partial(case.call, impl="native"), x, w).shape

    @jax.jit
    def run(x, w, dy):
        out = {}
        for impl in ["native", *case.impls.split()]:
            y, pull = jax.vjp(partial(case.call, impl=impl), x, w)
            out[impl] = (y, *pull(dy))
        return out

    out = run(x, w, normal(shape))
    for impl, values in out.items():
        for name, value, ref in zip(
            ("y", "dx", "dw"), values, out["native"], strict=True
        ):
            assert value.shape == ref.shape and value.dtype == ref.dtype
            np.testing.assert_allclose(
                value, ref, rtol=1e-5, atol=2e-5, err_msg=f"{impl} {name}"
            )


@pytest.mark.parametrize(
    "case", [CASES[3], CASES[6], CASES[11], CASES[14], CASES[18]], ids=str
)
def test_bfloat16(case):
    x, w = normal(case.x), normal(case.w)

    @jax.jit
    def run(x, w):
        def total(impl, dtype, x, w):
            y = case.call(x.astype(dtype), w.astype(dtype), impl)
            return y.astype(jnp.float32).sum(), y

        def gradients(impl, dtype):
            f = partial(total, impl, dtype)
            return jax.grad(f, (0, 1), has_aux=True)(x, w)

        low = [gradients(impl, jnp.bfloat16) for impl in case.impls.split()]
        return gradients("native", jnp.float32), low

    ref, low = run(x, w)
    assert all(y.dtype == jnp.bfloat16 for _, y in low)
    for found in low:
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(ref), strict=True):
            b = np.asarray(b)
            assert np.abs(np.asarray(a, np.float32) - b).max() < 0.02 * np.abs(b).max()


def test_impossible_implementations_are_refused():
    def call(impl, x, w, groups=1, **kw):
        x, w = jnp.zeros(x), jnp.zeros(w)
        nd = x.ndim - 2
        return conv_nd(
            x, w, (1,) * nd, "SAME", feature_group_count=groups, impl=impl, **kw
        )

    image, video = (1, 4, 4, 2), (1, 3, 4, 4, 2)
    for impl, x, w, groups in [
        ("fast", image, (3, 3, 2, 2), 1),
        ("shift", image, (3, 3, 2, 2), 1),
        ("split", image, (3, 3, 2, 2), 1),
        ("dot", image, (3, 3, 2, 2), 1),
        ("slices", image, (3, 3, 2, 2), 1),
        ("dot", image, (3, 3, 1, 2), 2),
        ("slices", image, (3, 3, 1, 2), 2),
        ("shift", video, (3, 3, 3, 2, 2), 1),
    ]:
        with pytest.raises(ValueError, match="impl"):
            call(impl, x, w, groups)
    with pytest.raises(ValueError, match="does not apply"):
        call("dot", image, (1, 1, 2, 2), lhs_dilation=(2, 2))


@pytest.mark.parametrize(
    "case,cpu_has_one",
    [
        (CASES[1], False),  # depthwise: shifts
        (CASES[6], False),  # depthwise 3-D: shifts
        (CASES[11], True),  # grouped: dense ones
        (CASES[26], False),  # pointwise: a matrix product
    ],
    ids=str,
)
def test_lowering_follows_the_platform(case, cpu_has_one):
    """Chosen by the platform lowered for, not by the one that this runs on."""
    traced = traced_gradient(case)
    text = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "tpu", "cuda")
    }
    assert "stablehlo.convolution" in text["tpu"]
    assert "stablehlo.convolution" in text["cuda"]
    assert ("stablehlo.convolution" in text["cpu"]) == cpu_has_one
    both = traced.lower(lowering_platforms=("cpu", "tpu")).as_text()
    assert "stablehlo.convolution" in both


def traced_gradient(case):
    def loss(x, w):
        return case.call(x, w, "auto").sum()

    return jax.jit(jax.grad(loss, (0, 1))).trace(
        jax.ShapeDtypeStruct(case.x, jnp.float32),
        jax.ShapeDtypeStruct(case.w, jnp.float32),
    )


def test_patches_of_few_channels_are_products_on_cpu_and_tpu():
    traced = traced_gradient(CASES[18])
    for platform, convolves in [("cpu", False), ("tpu", False), ("cuda", True)]:
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) == convolves, platform


def test_producer_is_not_computed_again_for_every_tap():
    """GELU before a depthwise convolution costs once, forward and backward."""
    x = jax.ShapeDtypeStruct((2, 16, 16, 32), jnp.float32)
    w = jax.ShapeDtypeStruct((7, 7, 1, 32), jnp.float32)

    def mix(x, w):
        return depthwise(x, w, padding=((3, 3), (3, 3)), dilation=(1, 1))

    def flops(f, *args):
        return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]

    def pull(f):
        return lambda dy, *args: jax.vjp(f, *args)[1](dy)

    together = flops(lambda x, w: mix(gelu(x), w), x, w)
    assert together <= 1.1 * (flops(gelu, x) + flops(mix, x, w))
    together = flops(pull(lambda x, w: mix(gelu(x), w)), x, x, w)
    assert together <= 1.1 * (
        flops(pull(gelu), x, x) + flops(gelu, x) + flops(pull(mix), x, x, w)
    )


def test_under_jit_vmap_grad_remat_and_scan():
    layer = conv(3, 3, 3, groups=3)
    assert isinstance(layer, nn.Conv)
    w, x = normal((3, 3, 1, 3)) / 3, normal((2, 5, 5, 3))

    def apply(impl, w, x):
        return conv_nd(x, w, (1, 1), "SAME", feature_group_count=3, impl=impl)

    def deep(impl, w, x):
        @jax.checkpoint
        def step(x, _):
            return jnp.tanh(apply(impl, w, x)), None

        return jax.lax.scan(step, x, None, length=3)[0].sum()

    @jax.jit
    def run(w, x):
        out = []
        for impl in ("native", "auto"):
            each = jax.vmap(partial(apply, impl), (None, 0))(w, jnp.stack([x, 2 * x]))
            scanned = jax.grad(partial(deep, impl), (0, 1))(w, x)
            per_clip = jax.vmap(jax.grad(partial(deep, impl)), (None, 0))(w, x[:, None])
            out.append((each, scanned, per_clip))
        return out

    native, auto = run(w, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        auto,
        native,
    )


def test_frames_stay_with_their_clips():
    """A stem's form for TPUs on a mesh: no device gets the clips of others."""
    mesh = make_mesh(8)
    with jax.set_mesh(mesh):
        clips = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
        x = jax.ShapeDtypeStruct((8, 6, 9, 9, 3), jnp.float32, sharding=clips)
        w = jax.ShapeDtypeStruct((5, 7, 7, 3, 4), jnp.float32)

        def loss(w, x):
            return jnp.square(conv_nd(x, w, (2, 2, 2), S7, impl="frames")).sum()

        text = jax.jit(jax.value_and_grad(loss)).lower(w, x).compile().as_text()
    assert "all-reduce" in text
    assert not re.search("all-gather|all-to-all|collective-permute", text)
