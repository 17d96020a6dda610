"""The loop of the recurrent models: sizes, lengths, sampling, errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stjax
from stjax.errors import UserError
from stjax.models.recurrent.phycell import moment_loss, moments
from stjax.models.recurrent.rollout import from_patches, to_patches
from stjax.models.recurrent.sampling import (
    reverse_probabilities,
    scheduled_probability,
)

# Exact parameters: mmnist 10x64x64x1, taxibj 4x32x32x2, kth 10x128x128x1,
# kitticaltech 10x128x160x3 (table of the reference), and the fields that differ.
INPUTS = [(10, 64, 64, 1), (4, 32, 32, 2), (10, 128, 128, 1), (10, 128, 160, 3)]
# The defaults are the mmnist models.
P4222 = [{}, *({"patch_size": 2},) * 3]
COUNTS = {
    "convlstm": ([15_083_520, 14_980_096, 14_928_384, 15_031_808], P4222),
    "predrnn": ([23_838_720, 23_658_496, 23_568_384, 23_748_608], P4222),
    "predrnnpp": ([38_584_320, 38_404_096, 38_313_984, 38_494_208], P4222),
    "predrnnv2": ([23_855_104, 23_674_880, 23_584_768, 23_764_992], P4222),
    "mim": (
        [38_043_648, 37_863_424, 39_813_120, 49_160_192],
        [{}, {"patch_size": 2}, {}, {"patch_size": 2}],
    ),
    "e3dlstm": (
        [51_347_456, 50_987_008, 53_510_144, 54_886_400],
        [
            {},
            {"patch_size": 2},
            {"patch_size": 8, "conv_stride": 2},
            {},
        ],
    ),
    "mau": (
        [4_483_588, 4_409_868, 20_138_372, 24_332_952],
        [{}, *({"sr_size": 2},) * 3],
    ),
    "phydnet": (
        [3_091_732, 3_092_309, 3_091_732, 3_092_886],
        [{}, {"patch_size": 2}, {}, {}],
    ),
}
TINY = {"num_hidden": (4, 4), "filter_size": 3, "patch_size": 2}


def count(name, shape, **fields):
    model = stjax.create_model(name, **fields)
    x = jnp.zeros((1, *shape))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    assert set(shapes) == {"params"}
    return sum(math.prod(v.shape) for v in jax.tree.leaves(shapes))


def random_variables(model, x):
    """Weights N(0, 1/fan_in), without compiling an initialisation."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)

    def draw(leaf):
        fan_in = max(1, math.prod(leaf.shape[:-1]))
        return jnp.asarray(rng.standard_normal(leaf.shape) / fan_in**0.5, jnp.float32)

    return jax.tree.map(draw, shapes)


def clip_of(*shape):
    return jnp.asarray(np.random.default_rng(1).uniform(size=shape), jnp.float32)


@pytest.fixture(scope="module")
def tiny():
    """A tiny PredRNN, its variables, a clip of 3 + 4 frames."""
    model = stjax.create_model("predrnn", **TINY)
    clip = clip_of(2, 7, 8, 8, 1)
    x, y = clip[:, :3], clip[:, 3:]
    return model, random_variables(model, x), x, y


@pytest.mark.parametrize("name", COUNTS)
def test_exact_parameter_counts(name):
    expected, fields = COUNTS[name]
    found = [count(name, s, **f) for s, f in zip(INPUTS, fields, strict=True)]
    assert found == expected


def test_convlstm_large():
    assert count("convlstm", INPUTS[0], num_hidden=(192,) * 4) == 33_782_784


def test_patches_keep_order_and_return():
    video = jnp.arange(2 * 3 * 4 * 6 * 2.0).reshape(2, 3, 4, 6, 2)
    patches = to_patches(video, 2)
    assert patches.shape == (2, 3, 2, 3, 8)
    # Channel (py * p + px) * C + c.
    assert patches[1, 2, 1, 2, (1 * 2 + 0) * 2 + 1] == video[1, 2, 3, 4, 1]
    np.testing.assert_array_equal(from_patches(patches, 2), video)


@pytest.mark.parametrize("step", [0, 7, 24_999, 49_999, 50_000, 70_000])
def test_scheduled_probability_counts_down(step):
    # OpenSTL: eta starts at 1 and loses 2e-5 at each update before the 50,000th.
    expected = 1 - 2e-5 * (step + 1) if step < 50_000 else 0.0
    np.testing.assert_allclose(scheduled_probability(step), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("step", "p_in", "p_out"),
    [
        (0, 0.5, 0.5),
        (24_999, 0.5, 0.5),
        (25_000, 0.5, 0.5),
        (30_000, 1 - 0.5 * math.exp(-1), 0.4),
        (49_999, 1 - 0.5 * math.exp(-24_999 / 5000), 0.5 * (1 - 24_999 / 25_000)),
        (50_000, 1.0, 0.0),
        (90_000, 1.0, 0.0),
    ],
)
def test_reverse_probabilities(step, p_in, p_out):
    found = jax.jit(reverse_probabilities)(step)
    np.testing.assert_allclose(found, (p_in, p_out), atol=1e-6)


@pytest.mark.parametrize("step", [0, 10_000, 30_000, 60_000])
def test_tokens_follow_the_schedule(step):
    def tokens(sampling):
        model = stjax.create_model("predrnn", sampling=sampling)
        draw = lambda m: m.tokens(step, 4000, 3, 4)  # noqa: E731
        return model.apply({}, method=draw, rngs={"dropout": jax.random.key(3)})

    shown = tokens("scheduled")
    assert shown.shape == (4000, 3)
    expected = float(scheduled_probability(step))
    np.testing.assert_allclose(shown.mean(0), expected, atol=0.03)
    shown = tokens("reverse")
    assert shown.shape == (4000, 5)
    p_in, p_out = map(float, reverse_probabilities(step))
    np.testing.assert_allclose(shown[:, :2].mean(0), p_in, atol=0.03)
    np.testing.assert_allclose(shown[:, 2:].mean(0), p_out, atol=0.03)
    # One token a sample and step: neighbours are independent.
    if 0 < p_in < 1:
        assert abs(np.corrcoef(shown[:, 0], shown[:, 1])[0, 1]) < 0.06
    assert tokens("none").sum() == 0


def test_phydnet_tosses_one_coin_a_batch():
    model = stjax.create_model("phydnet", steps_per_epoch=10)

    def share(step):
        def draw(key):
            tokens = model.apply(
                {}, method=lambda m: m.tokens(step, 3, 4, 5), rngs={"dropout": key}
            )
            return tokens.all(), tokens.any()

        every, some = jax.vmap(draw)(jax.random.split(jax.random.key(0), 2000))
        np.testing.assert_array_equal(every, some)
        return every.mean()

    assert share(9) == 1.0
    np.testing.assert_allclose(share(1000), 1 - 0.003 * 100, atol=0.04)
    assert share(3400) == 0.0


def test_any_length_in_and_out(tiny):
    model, variables, x, _ = tiny
    predict = jax.jit(
        lambda x, n: model.apply(variables, x, frames=n), static_argnums=1
    )
    far = predict(x, 6)
    assert far.shape == (2, 6, 8, 8, 1)
    np.testing.assert_allclose(predict(x, 2), far[:, :2], rtol=1e-5, atol=1e-6)
    assert predict(x, None).shape == x.shape
    assert predict(x[:, :1], 3).shape == (2, 3, 8, 8, 1)
    one = predict(x, 1)
    np.testing.assert_allclose(one, far[:, :1], rtol=1e-5, atol=1e-6)


def test_program_does_not_grow_with_length(tiny):
    model, variables, x, _ = tiny

    def size(n):
        predict = jax.jit(lambda x: model.apply(variables, x, frames=n))
        return len(predict.lower(x).as_text().splitlines())

    assert size(40) == size(4)


def test_all_shown_equals_prediction_step_by_step(tiny):
    """With every true frame shown, each prediction is that from its own past."""
    model, variables, x, y = tiny
    clip = jnp.concatenate([x, y], 1)
    taught = model.apply(
        variables, x, train=True, target=y, sampling_mask=jnp.ones((2, 3))
    )
    assert taught.shape == (2, 6, 8, 8, 1)
    for t in (1, 3, 6):
        alone = model.apply(variables, clip[:, :t], frames=1)
        np.testing.assert_allclose(alone[:, 0], taught[:, t - 1], atol=1e-5)


def test_training_never_sees_the_hidden_future(tiny):
    model, variables, x, y = tiny
    hidden = jnp.zeros((2, 3))
    run = lambda y: model.apply(  # noqa: E731
        variables, x, train=True, target=y, sampling_mask=hidden
    )
    np.testing.assert_array_equal(run(y), run(y.at[:].set(jnp.nan)))
    closed = model.apply(variables, x, frames=4)
    np.testing.assert_allclose(run(y)[:, -4:], closed, atol=1e-6)


def test_gradients_reach_all_used_parameters_and_remat_agrees(tiny):
    _, _, x, y = tiny
    fields = TINY | {"num_hidden": (4,)}
    variables = random_variables(stjax.create_model("predrnn", **fields), x)

    def grads(**more):
        model = stjax.create_model("predrnn", **fields, **more)

        def loss(variables):
            pred = model.apply(
                variables,
                x,
                train=True,
                target=y,
                step=jnp.asarray(100),
                rngs={"dropout": jax.random.key(5)},
            )
            return jnp.mean(pred**2)

        return jax.jit(jax.grad(loss))(variables)

    plain = grads()
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(plain))
    again = grads(remat=True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
        plain,
        again,
    )


@pytest.mark.parametrize("name", COUNTS)
def test_bfloat16_traces_and_predicts_float32(name):
    fields = {} if name == "phydnet" else {"num_hidden": (4, 4)}
    x = jnp.zeros((1, 2, 8, 8, 1))
    model = stjax.create_model(name, dtype=jnp.bfloat16, **fields)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert jax.eval_shape(model.apply, variables, x).dtype == jnp.float32


def test_bfloat16_is_near_float32(tiny):
    exact, variables, x, _ = tiny
    rough = stjax.create_model("predrnn", dtype=jnp.bfloat16, **TINY)
    y = exact.apply(variables, x, frames=4)
    assert np.abs(rough.apply(variables, x, frames=4) - y).max() <= 0.05


def test_e3dlstm_options_change_what_they_name():
    x = clip_of(1, 3, 4, 4, 1)
    fields = {"num_hidden": (3,), "patch_size": 2, "filter_size": 3}
    model = stjax.create_model("e3dlstm", **fields)
    variables = random_variables(model, x)
    y = model.apply(variables, x, frames=1)
    for option in ({"update_memory": True}, {"attention": "channels"}):
        other = stjax.create_model("e3dlstm", **fields, **option)
        assert np.abs(other.apply(variables, x, frames=1) - y).max() > 1e-6


def test_moments_of_a_derivative_filter():
    # Central difference along rows: only the first derivative along rows, and odd
    # higher ones (1/3!, 1/5!), none across.
    kernel = np.zeros((7, 7), np.float32)
    kernel[2, 3], kernel[4, 3] = -0.5, 0.5
    expected = np.zeros((7, 7))
    expected[1, 0], expected[3, 0], expected[5, 0] = 1, 1 / 6, 1 / 120
    np.testing.assert_allclose(moments(jnp.asarray(kernel)), expected, atol=1e-7)
    # Filters that are the 49 derivatives exactly cost nothing.
    basis = np.stack([np.arange(-3.0, 4) ** i / math.factorial(i) for i in range(7)])
    inverse = np.linalg.inv(basis)
    bank = np.einsum("ai,bj->abij", inverse, inverse).reshape(7, 7, 1, 49)
    assert moment_loss(jnp.asarray(bank, jnp.float32)) < 1e-8


def test_errors(tiny):
    model, variables, x, y = tiny

    def fails(match, name="predrnn", x=x, **fields):
        with pytest.raises(UserError, match=match):
            made = stjax.create_model(name, **fields)
            jax.eval_shape(made.init, jax.random.key(0), x)

    fails("not divisible by 4", patch_size=4, x=x[:, :, :6])
    fails("make the entries equal", num_hidden=(4, 8))
    fails("must be odd", **TINY | {"filter_size": 4})
    fails("at least 2 layers", "predrnnpp", num_hidden=(4,))
    fails("did you mean 'head'", "convlstm", version="heads")
    fails("2 or 4", "phydnet", patch_size=8)
    fails("power of 2", "mau", sr_size=3)
    fails("did you mean 'recall'", "mau", model_mode="recal")
    fails("did you mean 'channels'", "e3dlstm", attention="channel")
    fails("T >= 1", x=x[0])
    with pytest.raises(UserError, match="needs target"):
        model.apply(variables, x, train=True)
    with pytest.raises(UserError, match="frames must be of one shape"):
        model.apply(variables, x, train=True, target=jnp.zeros((2, 4, 8, 8, 2)))
    with pytest.raises(UserError, match="at least 1"):
        model.apply(variables, x, frames=0)
    wrong = stjax.create_model("predrnn", **TINY, sampling="reversed")
    with pytest.raises(UserError, match="did you mean 'reverse'"):
        wrong.apply(variables, x, train=True, target=y)
