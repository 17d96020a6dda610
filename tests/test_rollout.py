"""Long rollouts: the model's own recursion, block by block, in constant memory."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.data.base import ClipSpec
from stjax.errors import UserError
from stjax.models.registry import create_model
from stjax.prediction import Predictor
from stjax.sharding.mesh import make_mesh
from stjax.trained import one_late

SPEC = ClipSpec(3, 3, 16, 16)
SMALL = {"num_hidden": (4, 4), "filter_size": 3}
MODELS = {
    "tau": {"hid_s": 4, "hid_t": 8, "n_s": 2, "n_t": 2},
    "predformer": {"patch_size": 8, "dim": 16, "heads": 2, "dim_head": 8, "n_depth": 1},
    "convlstm": {"patch_size": 4, **SMALL},
    "mau": {"num_hidden": (4, 4), "sr_size": 4},
    "e3dlstm": {"patch_size": 4, **SMALL},
}


def variables_of(model, shape):
    """Random numbers of the right shapes; `init` takes long to compile."""
    rng = np.random.default_rng(0)

    def fill(s):  # norms have one axis: positive there
        values = rng.normal(0.1, 0.3, s.shape).astype(s.dtype)
        return values if s.ndim > 1 else np.square(values)

    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return jax.tree.map(fill, dict(shapes))


def make(name, spec=SPEC, **fields):
    model = create_model(name, **MODELS[name], **fields)
    return Predictor(model, variables_of(model, spec.input_shape), spec)


def recursed(predictor, x, frames):
    """What the model itself gives, in one call."""
    call = functools.partial(predictor.model.apply, frames=frames, train=False)
    quick = {"xla_backend_optimization_level": 0}
    return jax.jit(call, compiler_options=quick)(predictor.variables, x)


def clips(count=2, frames=3, seed=0):
    shape = (count, frames, 16, 16, 1)
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_blocks_are_the_models_own_recursion(name):
    predictor, x = make(name), clips()
    expected = recursed(predictor, x, 7)
    found = predictor(x, frames=7)  # 3 + 3 + 1
    assert found.shape == (2, 7, 16, 16, 1) and found.dtype == np.float32
    assert predictor._step._cache_size() == 1
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=2e-6)
    # A model that forgot where it was would repeat itself.
    assert np.abs(found[:, 6] - found[:, 3]).max() > 1e-4 * scale


def test_any_number_of_frames_is_compiled_once_and_needs_the_same_memory():
    predictor, x = make("tau"), clips(1)
    before = sum(a.nbytes for a in jax.live_arrays())
    held, blocks = [], 0
    for block in predictor.rollout(x, frames=100):
        blocks += block.shape[1]
        held.append(sum(a.nbytes for a in jax.live_arrays()) - before)
    assert blocks == 100
    frame = 16 * 16 * 4
    # The input, the state and two blocks of 3 frames each, and a last one that is cut.
    assert max(held) <= (4 * 3 + 1) * frame
    np.testing.assert_array_equal(
        np.concatenate(list(predictor.rollout(x, 30)), 1), predictor(x, 30)
    )
    assert predictor._step._cache_size() == predictor._start._cache_size() == 1
    memory = predictor._step.lower(
        predictor.variables, jnp.asarray(x), 255.0, (16, 16)
    ).compile()
    assert memory.memory_analysis().output_size_in_bytes <= 3 * 3 * frame


def test_an_endless_rollout_stops_when_one_likes():
    predictor, x = make("convlstm"), clips(1, frames=5)
    some = []
    for block in predictor.rollout(x):
        some.append(block)
        if len(some) == 4:
            break
    np.testing.assert_allclose(np.concatenate(some, 1), predictor(x, 12), atol=1e-6)
    with pytest.raises(UserError, match="E3DLSTM has no endless rollout; set frames"):
        next(make("e3dlstm").rollout(x))


def test_padded_sides_are_cropped_in_every_block():
    predictor = make("convlstm", ClipSpec(3, 3, 14, 13), pad_sides=True)
    x = clips()[:, :, :14, :13]
    np.testing.assert_allclose(predictor(x, 7), recursed(predictor, x, 7), atol=1e-5)


def test_a_fixed_number_of_frames_a_call():
    predictor, x = make("tau", ClipSpec(3, 2, 16, 16), t_out=2), clips(1)
    expected = recursed(predictor, x, 5)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(predictor(x, 5) / scale, expected / scale, atol=2e-6)


def test_what_cannot_be_fed_back_says_so():
    spec = ClipSpec(3, 3, 16, 16, ("a", "b"), target_channels=(0,), dtype="float32")
    predictor = make("tau", spec, out_channels=1)
    x = np.zeros((1, 3, 16, 16, 2), np.float32)
    assert next(predictor.rollout(x, 2)).shape == (1, 2, 16, 16, 1)
    with pytest.raises(UserError, match="reads 2 channels and predicts 1"):
        predictor(x, 4)


class Members(nn.Module):
    """Three members, [3, B, frames, H, W, C], each a constant."""

    feeds_back = False

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        bias = self.param("bias", lambda _: jnp.arange(3.0))
        y = jnp.broadcast_to(x[:, -1:], (len(x), frames or 3, *x.shape[2:]))
        return y[None] + bias[:, None, None, None, None, None]


def test_members_stay_in_front():
    x = clips(3)
    model = Members()
    predictor = Predictor(model, model.init(jax.random.key(0), x), SPEC)
    y = predictor(x, batch=2)
    assert y.shape == (3, 3, 3, 16, 16, 1)
    np.testing.assert_allclose(y[2, 1, 0], x[1, -1] + 2, rtol=1e-6)
    assert list(predictor.rollout(x, 9))[0].shape == (3, 3, 9, 16, 16, 1)


@pytest.mark.parametrize("name", ["tau", "convlstm"])
def test_devices_share_a_batch(name):
    predictor, x = make(name), clips(5)
    mesh = make_mesh(data=4, devices=jax.devices()[:4])
    several = predictor.on(mesh)
    y = several._call(several._predict, next(several._parts(x))[1], 255.0, 3)
    assert len(y.sharding.device_set) == 4 and not y.sharding.is_fully_replicated
    assert y.addressable_shards[0].data.shape[0] == 2  # 5 clips, padded to 8
    for frames in (3, 8):
        np.testing.assert_allclose(
            several(x, frames), predictor(x, frames), atol=1e-5 * 1
        )
    assert "runs on 4 cpu in float32" in several.describe()


def test_bfloat16():
    predictor, x = make("tau"), clips()
    half = predictor.astype("bfloat16")
    assert half.model.dtype == jnp.bfloat16 and predictor.model.dtype == jnp.float32
    exact, rough = predictor(x, 7), half(x, 7)
    assert rough.dtype == np.float32
    error = np.abs(exact - rough).max() / np.abs(exact).max()
    assert 1e-6 < error < 0.05
    with pytest.raises(UserError, match="unknown dtype 'float16'"):
        predictor.astype("float16")
    with pytest.raises(UserError, match="Members has no field dtype"):
        Predictor(Members(), {}, SPEC).astype("bfloat16")


def test_one_late_computes_ahead_by_one():
    made = []

    def items():
        for i in range(4):
            made.append(i)
            yield i

    ahead = [(i, len(made)) for i in one_late(items())]
    assert ahead == [(0, 2), (1, 3), (2, 4), (3, 4)]
