"""The TPU's kernels for depthwise convolution, interpreted, against XLA's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.ops import depthwise_kernel, depthwise_plan
from stjax.ops.conv import conv_nd
from stjax.ops.depthwise_plan import make_plan, uses_kernel
from stjax.sharding.mesh import make_mesh


@pytest.fixture
def compiler(monkeypatch):
    """As where libtpu is installed."""
    monkeypatch.setattr(depthwise_plan, "_has_compiler", lambda: True)


def arrays(shape, window, padding, dilation, dtype):
    """x, w, b, dy, and the result and gradients in float32."""
    rng = np.random.default_rng(0)

    def draw(shape):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    given = draw(shape), draw((*window, 1, shape[-1])), draw(shape[-1:])

    def native(x, w, b):
        return b + conv_nd(
            *(x, w, (1,) * len(window), padding),
            rhs_dilation=dilation,
            feature_group_count=shape[-1],
            impl="native",
        )

    dy = draw(jax.eval_shape(native, *given).shape)
    y, pull = jax.vjp(native, *(a.astype(jnp.float32) for a in given))
    return (*given, dy), (y, *pull(dy.astype(jnp.float32)))


def interpreted(f, *args, **fields):
    """Interpreted kernels are long programs: compiled in a hurry."""
    f = jax.jit(partial(f, **fields, interpret=True))
    return f.lower(*args).compile({"xla_backend_optimization_level": 0})(*args)


def both(x, w, b, dy, **fields):
    y = depthwise_kernel.spread_forward(x, w, b, **fields)
    return y, *depthwise_kernel.spread_gradient(x, w, dy, **fields)


@pytest.mark.parametrize(
    ("dtype", "shape", "window", "padding", "dilation", "parts"),
    [
        # Pairs of clips, dilation.
        ("float32", (2, 4, 7, 64), (3, 2), ((2, 2), (0, 1)), (2, 1), 1),
        # A block of channels and a bit, padding on one side.
        ("bfloat16", (3, 3, 5, 160), (2, 3), ((1, 0), (3, 3)), (1, 3), 1),
        # In time too, rows in parts.
        ("float32", (2, 3, 4, 5, 64), (2, 2, 3), ((0, 1), (1, 0), (1, 1)), (1,) * 3, 2),
        (
            "bfloat16",
            (1, 2, 3, 6, 64),
            (3, 2, 1),
            ((1, 1), (1, 0), (0, 0)),
            (1,) * 3,
            1,
        ),
        # Frames on their own.
        ("float32", (1, 2, 3, 8, 64), (1, 2, 2), ((0, 0), (0, 1), (1, 0)), (1,) * 3, 1),
    ],
)
def test_equal(monkeypatch, dtype, shape, window, padding, dilation, parts):
    if parts > 1:  # as for maps that are too large
        monkeypatch.setattr(depthwise_plan, "_part", of_two_rows(depthwise_plan._part))
    plan = make_plan(shape, dtype, (*window, 1, shape[-1]), padding, dilation)
    assert plan.parts == parts
    given, want = arrays(shape, window, padding, dilation, jnp.dtype(dtype))
    got = interpreted(both, *given, padding=padding, dilation=dilation)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape and a.dtype in (dtype, jnp.float32)
        error = np.abs(a.astype(jnp.float32) - b).max() / np.abs(b).max()
        # Sums are float32; of a bfloat16 result half a unit in the last place.
        assert error < (1e-6 if dtype == "float32" else 2.0**-8)


def of_two_rows(part):
    return lambda plan, _: part(plan, 2)


def test_devices_have_their_own_clips():
    padding, dilation = ((1, 1), (0, 0)), (1, 1)
    given, want = arrays((4, 2, 5, 64), (2, 1), padding, dilation, jnp.float32)
    with jax.set_mesh(make_mesh(data=2, fsdp=1, space=1, devices=jax.devices()[:2])):
        got = interpreted(both, *given, padding=padding, dilation=dilation)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def lowered(shape, window, **kwargs):
    """A convolution and its gradient as they are lowered for a TPU, as text."""
    c, nd = shape[-1], len(window)
    padding = tuple((k // 2, k // 2) for k in window)

    def loss(x, w):
        y = conv_nd(x, w, (1,) * nd, padding, feature_group_count=c, **kwargs)
        return y.sum()

    shapes = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in (shape, (*window, 1, c))]
    f = jax.jit(jax.value_and_grad(loss, (0, 1)))
    return f.trace(*shapes).lower(lowering_platforms=("tpu",)).as_text()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("shape", "window"), [((2, 8, 8, 64), (5, 5)), ((2, 2, 6, 8, 64), (3, 3, 3))]
)
def test_chosen_where_lowered_for_a_tpu(monkeypatch, shape, window):
    # Forward, and both gradients.
    assert lowered(shape, window).count("tpu_custom_call") == 3
    assert "tpu_custom_call" not in lowered(shape, window, impl="native")
    monkeypatch.setenv("STJAX_TPU_KERNELS", "0")
    assert "tpu_custom_call" not in lowered(shape, window)


@pytest.mark.usefixtures("compiler")
def test_what_they_take():
    def taken(shape, window, padding=None, dilation=None, dtype=jnp.bfloat16):
        padding = padding or tuple((k // 2, k // 2) for k in window)
        dilation = dilation or (1,) * len(window)
        return uses_kernel(shape, dtype, (*window, 1, shape[-1]), padding, dilation)

    assert taken((16, 16, 16, 512), (7, 7), ((9, 9),) * 2, (3, 3))
    assert taken((8, 16, 56, 56, 64), (5, 5, 5))
    assert not taken((16, 16, 16, 512), (3, 3))
    assert not taken((16, 16, 16, 32), (5, 5))  # lanes would be empty
    assert not taken((16, 16, 4, 64), (5, 5))  # sublanes
    assert not taken((16, 64, 512, 64), (5, 5))  # too wide
    assert not taken((2, 512, 256, 512), (5, 5))  # a map fills the memory
    assert not taken((16, 16, 16, 64), (21, 21))
    assert not taken((16, 16, 16, 64), (5, 5), ((5, 5), (1, 1)))
    assert not taken((2, 8, 16, 16, 64), (3, 3, 3), None, (2, 1, 1))
    assert not taken((16, 16, 16, 64), (5, 5), dtype=jnp.float16)
    batch = jax.export.symbolic_shape("b")[0]
    assert not taken((batch, 16, 16, 64), (5, 5))
    with jax.set_mesh(make_mesh(data=2, fsdp=2, space=2, devices=jax.devices()[:8])):
        assert not taken((16, 16, 16, 64), (5, 5))  # rows are split
    with jax.set_mesh(make_mesh(data=4, fsdp=1, space=1, devices=jax.devices()[:4])):
        assert taken((8, 16, 16, 64), (5, 5)) and not taken((6, 16, 16, 64), (5, 5))


def test_nobody_waits_for_them_without_the_compiler(monkeypatch):
    monkeypatch.setattr(depthwise_plan, "_has_compiler", lambda: False)
    assert "tpu_custom_call" not in lowered((2, 8, 8, 64), (5, 5))
