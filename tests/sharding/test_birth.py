"""Parameters are born where they will lie: no device ever holds all of them."""

import types

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stjax.config import base_config
from stjax.data.base import ClipSpec
from stjax.optim import create_optimizer
from stjax.sharding.mesh import make_mesh
from stjax.training.setup import Setup, first_state
from stjax.training.state import create_state, init_variables, state_shardings

SPEC = ClipSpec(2, 2, 4, 4)
WIDTH, LAYERS = 512, 4


class Wide(nn.Module):
    """Nearly all of it is square matrices."""

    @nn.compact
    def __call__(self, x, *, frames=None, train=False):
        y = nn.Dense(WIDTH)(x)
        for _ in range(LAYERS):
            y = nn.Dense(WIDTH)(y)
        return nn.Dense(1)(y)


def setup(mesh):
    tx = create_optimizer("adam", lr=1e-3, total_steps=10, steps_per_epoch=10)
    return Setup(
        config=base_config(),
        mesh=mesh,
        sources={"train": types.SimpleNamespace(spec=SPEC)},
        model=Wide(),
        tx=tx,
        objective=None,
        metrics={},
        steps=10,
        epoch=10,
    )


def test_a_device_never_holds_all_parameters():
    mesh = make_mesh(1, 8, 1)
    parts = setup(mesh)

    def fresh():
        return create_state(init_variables(parts.model, SPEC, 0), parts.tx)

    abstract = jax.eval_shape(fresh)
    shardings = state_shardings(abstract, mesh)
    memory = jax.jit(fresh, out_shardings=shardings).lower().compile().memory_analysis()
    matrices = LAYERS * WIDTH**2 * 4
    # Parameters and two moments, an eighth of each; a little is not split.
    assert memory.output_size_in_bytes < 3 * matrices / 8 * 1.1
    assert memory.temp_size_in_bytes < matrices / 4


def test_the_first_state_lies_on_the_mesh_and_is_that_of_one_device():
    alone = make_mesh(1, devices=jax.devices()[:1])
    states = []
    for mesh in (make_mesh(1, 8, 1), alone):
        with jax.set_mesh(mesh):
            state, _ = first_state(setup(mesh), types.SimpleNamespace(last=None))
        states.append(state)
    kernels = jax.tree.leaves(
        jax.tree.map(
            lambda p: p.addressable_shards[0].data.shape,
            {k: v["kernel"] for k, v in states[0].params.items()},
        ),
        is_leaf=lambda x: isinstance(x, tuple),
    )
    assert kernels.count((WIDTH, WIDTH // 8)) == LAYERS
    for got, want in zip(*map(jax.tree.leaves, states), strict=True):
        if jnp.issubdtype(got.dtype, jnp.floating):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
