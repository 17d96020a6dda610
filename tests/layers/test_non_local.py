"""The non-local block against PySlowFast's, its variants, and its parameters."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.errors import UserError
from stjax.layers.non_local import NonLocal


def variables_of(z):
    """Flax variables from a PySlowFast ``Nonlocal`` state dict."""
    flat = {}
    names = {"running_mean": "mean", "running_var": "var"}
    for key in z.files:
        if not key.startswith("param/") or key.endswith("num_batches_tracked"):
            continue
        module, leaf = key.removeprefix("param/").split(".")
        value = z[key]
        collection = "batch_stats" if leaf in names else "params"
        if leaf == "weight":
            leaf = "scale" if module == "bn" else "kernel"
        if value.ndim == 5:
            value = np.moveaxis(value, (0, 1), (-1, -2))
        flat[collection, module, names.get(leaf, leaf)] = value
    return flax.traverse_util.unflatten_dict(flat)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize(
    "pairwise,name",
    [("embedded_gaussian", "softmax"), ("dot_product", "dot_product")],
)
def test_parity_with_slowfast(golden, pairwise, name, pool):
    z = golden(f"nonlocal_{name}_{'nopool' if pool == 1 else 'pool122'}.npz")
    x = np.moveaxis(z["input"], 1, -1)
    block = NonLocal(pairwise=pairwise, pool=pool)
    y = jax.jit(lambda v: block.apply(v, x, train=False))(variables_of(z))
    ref = np.moveaxis(z["output"], 1, -1)
    assert np.abs(y - ref).max() <= 1e-5 * np.abs(ref).max()


def shapes(c, **fields):
    x = jnp.zeros((1, 2, 3, 3, c))
    make = NonLocal(**fields).init
    return jax.eval_shape(lambda: make(jax.random.key(0), x, train=False))


def count(c, **fields):
    return sum(p.size for p in jax.tree.leaves(shapes(c, **fields)["params"]))


@pytest.mark.parametrize("c,expected", [(256, 132_224), (512, 526_592)])
def test_parameters(c, expected):
    assert count(c) == expected
    # Without theta and phi: two of the four convolutions go.
    assert count(c, pairwise="gaussian") == expected - 2 * (c * c // 2 + c // 2)
    assert count(c, pairwise="concatenation") == expected + c
    assert count(c, norm=False) == expected - 2 * c
    # No choice of positions has weights of its own.
    for fields in ({"pool": 3}, {"attend": "time"}, {"temporal_groups": 2}):
        assert shapes(c, **fields) == shapes(c)


def test_parameters_of_1024_channels():
    assert count(1024) == 2_101_760


def filled(block, x, seed=0):
    """Variables that leave no part of the block idle."""
    variables = block.init(jax.random.key(seed), x, train=False)
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        positive = path[-1].key in ("var", "scale")
        noise = rng.standard_normal(leaf.shape).astype("f4")
        return 1 + 0.1 * noise if positive else 0.5 * noise

    return jax.tree_util.tree_map_with_path(fill, variables)


def clip(b=2, t=4, h=4, w=6, c=8, seed=1):
    return np.random.default_rng(seed).standard_normal((b, t, h, w, c)).astype("f4")


def by_hand(variables, x, pairwise, use_scale, pool, pool_first):
    """Equation 1 in float64, positions one after another."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    x = np.asarray(x, np.float64)

    def project(name, y):
        return y @ p[name]["kernel"][0, 0, 0] + p[name]["bias"]

    def pooled(y):
        b, t, h, w, c = y.shape
        y = y.reshape(b, t, h // pool, pool, w // pool, pool, c)
        return y.max((3, 5))

    def key(name):
        return project(name, pooled(x)) if pool_first else pooled(project(name, x))

    g = key("conv_g")
    theta, phi = x, pooled(x)
    if pairwise != "gaussian":
        theta, phi = project("conv_theta", x), key("conv_phi")
    out = np.empty((*x.shape[:-1], g.shape[-1]))
    for b in range(x.shape[0]):
        keys, values = (a[b].reshape(-1, a.shape[-1]) for a in (phi, g))
        for place in np.ndindex(x.shape[1:4]):
            query = theta[b][place]
            if pairwise == "concatenation":
                both = np.concatenate([np.tile(query, (len(keys), 1)), keys], 1)
                f = np.maximum(both @ p["w_f"], 0) / len(keys)
            elif pairwise == "dot_product":
                f = keys @ query / len(keys)
            else:
                f = np.exp(keys @ query * (len(query) ** -0.5 if use_scale else 1))
                f /= f.sum()
            out[b][place] = f @ values
    y = out @ p["conv_out"]["kernel"][0, 0, 0] + p["conv_out"]["bias"]
    stats = {k: np.float64(v) for k, v in variables["batch_stats"]["bn"].items()}
    gain = p["bn"]["scale"] / np.sqrt(stats["var"] + 1e-5)
    return x + (y - stats["mean"]) * gain + p["bn"]["bias"]


@pytest.mark.parametrize("pool_first", [True, False])
@pytest.mark.parametrize(
    "pairwise,use_scale",
    [
        ("embedded_gaussian", False),
        ("gaussian", False),
        ("gaussian", True),
        ("dot_product", True),
        ("concatenation", True),
    ],
)
def test_against_the_definition(pairwise, use_scale, pool_first):
    block = NonLocal(
        pairwise=pairwise, use_scale=use_scale, pool=2, pool_first=pool_first
    )
    x = clip()
    variables = filled(block, x)
    y = block.apply(variables, x, train=False)
    ref = by_hand(variables, x, pairwise, use_scale, 2, pool_first)
    assert np.abs(y - ref).max() <= 1e-5 * np.abs(ref).max()


def test_pooling_and_projecting_do_not_commute():
    x = clip()
    first, after = (NonLocal(pool=2, pool_first=f) for f in (True, False))
    variables = filled(first, x)
    a, b = (m.apply(variables, x, train=False) for m in (first, after))
    assert np.abs(a - b).max() > 1e-2


def test_attend_and_groups():
    """What a position sees, shown by what a change elsewhere does to it."""
    x = clip(b=1)
    other = x.copy()
    other[0, 3, 0, 0] += 1  # the last frame, first place

    def changed(**fields):
        block = NonLocal(**fields)
        variables = filled(block, x)
        a, b = (block.apply(variables, v, train=False) for v in (x, other))
        return np.abs(a - b)[0].max(-1) > 1e-6  # [T, H, W]

    assert changed().all()
    assert changed(pool=2).all()
    space = changed(attend="space")
    assert space[3].all() and not space[:3].any()
    time = changed(attend="time", pool=2)
    assert time[:, 0, 0].all() and time.sum() == 4
    groups = changed(temporal_groups=2)
    assert groups[2:].all() and not groups[:2].any()


def test_frames_and_sequences_are_clips_with_axes_of_one():
    x = clip(t=1)
    block = NonLocal(pool=2)
    variables = filled(block, x)
    one = block.apply(variables, x, train=False)[:, 0]

    def squeezed(n):
        axes = tuple(range(n))

        def squeeze(path, leaf):
            return leaf.squeeze(axes) if path[-1].key == "kernel" else leaf

        return jax.tree_util.tree_map_with_path(squeeze, variables)

    image = block.apply(squeezed(1), x[:, 0], train=False)
    np.testing.assert_allclose(image, one, rtol=1e-6, atol=1e-6)
    block = NonLocal(attend="time")
    line = x[:, 0, :, 0]  # [B, T, C]
    as_clip = block.apply(variables, line[:, :, None, None], train=False)
    sequence = block.apply(squeezed(2), line, train=False)
    np.testing.assert_allclose(sequence, as_clip[:, :, 0, 0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("init_std", [0.01, None])
def test_identity_at_birth(norm, init_std):
    x = clip()
    block = NonLocal(norm=norm, init_std=init_std, pool=2)
    variables = block.init(jax.random.key(0), x, train=False)
    y, _ = block.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, x)

    def loss(params):
        y, _ = block.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.square(y).sum()

    grads = jax.grad(loss)(variables["params"])
    moving = grads["bn"]["scale"] if norm else grads["conv_out"]["kernel"]
    assert np.abs(moving).max() > 0
    std = np.std(variables["params"]["conv_theta"]["kernel"])
    # He: 2 / fan_out, fan_out the 4 channels of the bottleneck.
    assert std == pytest.approx(init_std or 0.5**0.5, rel=0.4)


def test_frozen_bn_has_no_gradient():
    x = clip()
    block = NonLocal(frozen_bn=True)
    variables = filled(block, x)

    def loss(params):
        y, updates = block.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.square(y).sum(), updates["batch_stats"]

    grads, stats = jax.grad(loss, has_aux=True)(variables["params"])
    assert all(not np.any(g) for g in grads["bn"].values())
    assert np.abs(grads["conv_g"]["kernel"]).max() > 0
    for name, value in variables["batch_stats"]["bn"].items():
        np.testing.assert_array_equal(stats["bn"][name], value)


@pytest.mark.parametrize(
    "fields,shape,message",
    [
        ({"attend": "everything"}, (1, 2, 4, 4, 8), "attend"),
        ({"pairwise": "cosine"}, (1, 2, 4, 4, 8), "pairwise"),
        ({"temporal_groups": 3}, (1, 4, 4, 4, 8), "4 frames"),
        ({"attend": "time"}, (1, 4, 4, 8), "clips"),
        ({"attend": "space"}, (1, 4, 8), "clips"),
        ({"pool": 2}, (1, 4, 8), "maps"),
        ({"pool": 4}, (1, 2, 2, 2, 8), "sides"),
    ],
)
def test_errors(fields, shape, message):
    with pytest.raises(UserError, match=message):
        NonLocal(**fields).init(jax.random.key(0), jnp.zeros(shape), train=False)
