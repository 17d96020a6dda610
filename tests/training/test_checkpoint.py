import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.errors import UserError
from stjax.optim import create_optimizer
from stjax.sharding.mesh import make_mesh, replicated
from stjax.training import checkpoint
from stjax.training.checkpoint import Checkpoints
from stjax.training.state import create_state, placed, state_shardings


def make(step=0, width=3):
    variables = {
        "params": {"hid": {"kernel": jnp.full((2, width), float(step))}},
        "batch_stats": {"hid": {"mean": jnp.full(width, float(step))}},
    }
    tx = create_optimizer(lr=0.1, total_steps=10)
    return create_state(variables, tx).replace(step=jnp.int32(step))


def abstract(state, mesh=None):
    mesh = mesh or make_mesh(data=1)
    return placed(jax.eval_shape(lambda: state), state_shardings(state, mesh))


@pytest.fixture
def saved(tmp_path):
    """Steps 1 to 5; 2 is the best, 3 and 5 were not evaluated."""
    with Checkpoints(tmp_path, create=True) as checkpoints:
        for step, error in [(1, 3.0), (2, 1.0), (3, None), (4, 2.0), (5, None)]:
            metrics = {} if error is None else {"error": error}
            checkpoints.save(make(step), metrics)
    return tmp_path


def test_the_last_two_and_the_best_are_kept(saved):
    with Checkpoints(saved) as checkpoints:
        assert (checkpoints.best, checkpoints.last) == (2, 5)
        assert checkpoints.metrics(2) == {"error": 1.0}
        for step, number in [("best", 2), ("last", 5), (2, 2), (None, 2)]:
            assert checkpoints.find(step) == number
        with pytest.raises(
            UserError, match=r"no checkpoint of step 3; there are \[2, 4, 5\]"
        ):
            checkpoints.restore(abstract(make()), 3)


def test_an_error_that_is_not_finite_is_never_the_best(tmp_path):
    with Checkpoints(tmp_path, create=True) as checkpoints:
        for step, error in [(1, 3.0), (2, float("nan")), (3, float("inf"))]:
            checkpoints.save(make(step), {"error": error})
        assert (checkpoints.find("best"), checkpoints.last) == (1, 3)


def test_restored_onto_another_mesh(saved):
    mesh = make_mesh(data=4)
    with Checkpoints(saved) as checkpoints:
        state = checkpoints.restore(abstract(make(), mesh))
    jax.tree.map(np.testing.assert_array_equal, state, make(5))
    assert state.params["hid"]["kernel"].sharding == replicated(mesh)


def test_weights_without_the_optimizer(saved):
    variables = abstract(make()).variables
    with Checkpoints(saved) as checkpoints:
        _, found = checkpoints.restore_variables(variables)
    jax.tree.map(np.testing.assert_array_equal, found, make(2).variables)


def test_what_is_saved_does_not_change_when_its_memory_is_reused(tmp_path):
    step = jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)
    state = make(1, width=50_000)
    with Checkpoints(tmp_path, create=True) as checkpoints:
        checkpoints.save(state)
        for _ in range(20):
            state = step(state)
    with Checkpoints(tmp_path) as checkpoints:
        found = checkpoints.restore(abstract(make(1, width=50_000)))
    jax.tree.map(np.testing.assert_array_equal, found, make(1, width=50_000))


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="has no checkpoint; give the workdir"):
        Checkpoints(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match="has no checkpoint"),
    ):
        checkpoints.restore(abstract(make()))


def test_checkpoint_of_another_model(saved):
    other = make(width=4)
    other.params["dec"] = {"bias": jnp.zeros(1)}
    del other.collections["batch_stats"]
    text = (
        r"is of another model: collections/batch_stats/hid/mean \(3,\) is not in the"
        r" model; params/dec/bias \(1,\) is missing; params/hid/kernel is \(2, 3\), the"
        r" model has \(2, 4\)$"
    )
    with Checkpoints(saved) as checkpoints, pytest.raises(UserError, match=text):
        checkpoints.restore(abstract(other))


def test_those_of_a_bucket_go_there(monkeypatch):
    """Not to the local folder "gs:", which is what an absolute path would be."""
    seen = []
    monkeypatch.setattr(checkpoint.damage, "drop_unreadable_metrics", seen.append)
    monkeypatch.setattr(
        checkpoint.ocp, "CheckpointManager", lambda path, **options: seen.append(path)
    )
    Checkpoints("gs://bucket/run", create=True)
    assert {str(path) for path in seen} == {"gs://bucket/run/checkpoints"}
