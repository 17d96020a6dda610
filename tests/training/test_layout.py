"""Checkpoints read by a model with the other choice of ``model.scan``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.optim import create_optimizer
from stjax.sharding.mesh import make_mesh
from stjax.stacked import stack, unstack
from stjax.training.checkpoint import Checkpoints
from stjax.training.state import create_state, placed, state_shardings

LOOP = {"net": {"enc_0": {"w": (3,)}, "enc_1to2": {"w": (2, 3)}}}


def states(average):
    """The same state in a loop and one by one; every value is another."""
    numbers = iter(range(1000))

    def make(shape):
        return jnp.array([next(numbers) for _ in range(int(np.prod(shape)))]).reshape(
            shape
        )

    def tree(shapes):
        leaf = {"is_leaf": lambda s: isinstance(s, tuple)}
        return jax.tree.map(lambda s: make(s).astype(jnp.float32), shapes, **leaf)

    variables = {"params": tree(LOOP), "batch_stats": tree(LOOP)}
    # The first block is frozen: moments are of a part of the parameters.
    tx = create_optimizer(lr=0.1, total_steps=9, freeze=("enc_0",))
    loop = create_state(variables, tx, average)
    mu, nu = tree(jax.tree.map(jnp.shape, loop.opt_state.mu)), loop.opt_state.nu
    loop = loop.replace(opt_state=loop.opt_state._replace(mu=mu, nu=nu))
    if average:
        loop = loop.replace(ema=tree(LOOP))
    parts = {name: unstack(getattr(loop, name)) for name in FIELDS}
    return loop, loop.replace(**parts)


FIELDS = ("params", "collections", "opt_state", "ema")


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_taken_up_in_the_other_layout(tmp_path, average, order):
    both = states(average)
    saved, wanted = (both[i] for i in order)
    with Checkpoints(tmp_path, create=True) as checkpoints:
        checkpoints.save(saved)
    mesh = make_mesh(data=2)
    abstract = placed(jax.eval_shape(lambda: wanted), state_shardings(wanted, mesh))
    with Checkpoints(tmp_path) as checkpoints:
        state = checkpoints.restore(abstract)
        _, variables = checkpoints.restore_variables(abstract.variables)
    jax.tree.map(np.testing.assert_array_equal, state, wanted)
    jax.tree.map(np.testing.assert_array_equal, variables, wanted.variables)
    for leaf in jax.tree.leaves(state):
        assert leaf.sharding.mesh == mesh


def test_there_and_back():
    loop, single = states(False)
    again = stack(single.params, loop.params)
    jax.tree.map(np.testing.assert_array_equal, again, loop.params)
    assert single.params["net"].keys() == {"enc_0", "enc_1", "enc_2"}
