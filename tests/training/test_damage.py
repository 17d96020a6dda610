"""Damaged checkpoints: the one before is taken, and nothing gets lost for good."""

import gc
import logging
import shutil

import jax
import numpy as np
import pytest
from test_checkpoint import abstract, make

from stjax.errors import UserError
from stjax.training import damage
from stjax.training.checkpoint import Checkpoints

WIDTH = 5000

# Where one read fails, Orbax leaves its others unfinished.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def noise(step):
    """A state that does not compress, so that its arrays have chunks of their own."""
    state, key = make(step, WIDTH), jax.random.key(step)
    params = {"hid": {"kernel": jax.random.normal(key, (2, WIDTH))}}
    return state.replace(params=params)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with Checkpoints(folder, create=True) as checkpoints:
        for step, error in [(1, 1.0), (2, 3.0), (3, 2.0)]:
            checkpoints.save(noise(step), {"error": error})
    return folder


@pytest.fixture
def saved(whole, tmp_path):
    """Steps 1 (the best), 2 and 3."""
    shutil.copytree(whole, tmp_path / "run")
    yield tmp_path / "run"
    gc.collect()  # what is left unfinished is told now, not in another test


def largest(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def flip(folder):
    """One bit in the middle of the largest array: no format notices that."""
    path = largest(folder / "model")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


def cut(folder):
    path = largest(folder / "train")
    path.write_bytes(path.read_bytes()[:100])


def lose(folder):
    largest(folder / "model").unlink()


def lose_everything(folder):
    shutil.rmtree(folder / "model")


def empty(folder):
    (folder / "train" / "_METADATA").write_text("")


HARMS = [flip, cut, lose, lose_everything, empty]


def restored(checkpoints, step="last"):
    return checkpoints.restore(abstract(noise(0)), step)


@pytest.mark.parametrize("harm", HARMS)
def test_the_one_before_is_taken_and_the_step_is_saved_again(saved, caplog, harm):
    harm(saved / "checkpoints" / "3")
    with Checkpoints(saved, create=True) as checkpoints:
        found = restored(checkpoints)
        jax.tree.map(np.testing.assert_array_equal, found, noise(2))
        (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
        text = record.getMessage()
        assert text.startswith(f"checkpoint 3 of {saved} cannot be read (")
        assert text.endswith("taking that of step 2; it is now 3.damaged, to be deleted"
                             " by you")  # fmt: skip
        assert ("checksum of its item model is wrong" in text) == (harm is flip)
        assert "\n" not in text
        assert (saved / "checkpoints" / "3.damaged").is_dir()
        assert checkpoints.last == 2
        checkpoints.save(noise(3), {"error": 0.5})
    with Checkpoints(saved) as checkpoints:
        assert (checkpoints.best, checkpoints.last) == (3, 3)
        jax.tree.map(np.testing.assert_array_equal, restored(checkpoints), noise(3))


def test_readers_rename_nothing_and_take_the_next_best(saved, caplog):
    flip(saved / "checkpoints" / "1")
    variables = abstract(noise(0)).variables
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.best == 1
        step, found = checkpoints.restore_variables(variables)
        assert step == 3  # of 2 and 3, the better one
        jax.tree.map(np.testing.assert_array_equal, found, noise(3).variables)
        with pytest.raises(UserError, match="step 1: the checksum of its item model"):
            checkpoints.restore_variables(variables, 1)
    assert len(caplog.records) == 1
    assert sorted(p.name for p in (saved / "checkpoints").iterdir()) == ["1", "2", "3"]


def test_none_can_be_read(saved):
    for step in (1, 2, 3):
        lose(saved / "checkpoints" / str(step))
    with (
        Checkpoints(saved, create=True) as checkpoints,
        pytest.raises(
            UserError, match="no checkpoint .* can be read .*step 3: .*step 1"
        ),
    ):
        restored(checkpoints)
    assert sorted(p.name for p in (saved / "checkpoints").iterdir()) == ["1", "2", "3"]


def test_damaged_metrics_only_lose_the_rank(saved, caplog):
    (saved / "checkpoints" / "1" / "metrics" / "metrics").write_bytes(b"\xff{")
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.best == 3
    with Checkpoints(saved, create=True) as checkpoints:
        assert checkpoints.best == 3 and checkpoints.metrics(1) == {}
        assert int(restored(checkpoints, 1).step) == 1
    assert [r for r in caplog.records if "counts as one that was not" in r.getMessage()]


def test_an_older_damaged_one_is_left_behind(saved):
    with Checkpoints(saved, create=True) as checkpoints:
        lose_everything(saved / "checkpoints" / "2")
        checkpoints.save(noise(4), {"error": 4.0})
        checkpoints.find("last")
        assert not (saved / "checkpoints" / "2").exists()  # neither best nor last two
        assert int(restored(checkpoints).step) == 4


def test_damage_again_replaces_what_was_set_aside(saved):
    for _ in range(2):
        lose(saved / "checkpoints" / "3")
        with Checkpoints(saved, create=True) as checkpoints:
            assert int(restored(checkpoints).step) == 2
            checkpoints.save(noise(3), {})
    assert (saved / "checkpoints" / "3.damaged").is_dir()


def test_the_checksum_sees_every_word():
    tree = {
        "a": np.arange(6, dtype=np.float32),
        "b": np.array([True, False]),
        "c": np.array([1, 2], np.int8),
        "d": np.zeros((), np.int32),
    }
    before = int(damage.checksum(tree))
    words = np.concatenate([tree["a"].view(np.uint32), tree["b"], tree["c"], [0]])
    assert before == int(words.astype(np.uint64).sum() % 2**32)
    for name, leaf in tree.items():
        changed = leaf.copy()
        changed[...] = changed + 1 if leaf.dtype != bool else ~changed
        if leaf.dtype != bool:
            assert int(damage.checksum(tree | {name: changed})) != before


def test_a_full_disk_in_a_line(tmp_path):
    for error in (
        OSError(28, "No space left on device"),
        ValueError("x: File too large"),
    ):
        with (
            pytest.raises(UserError, match="could not be written .* make room"),
            damage.room(tmp_path),
        ):
            raise error
    with pytest.raises(ValueError, match="else"), damage.room(tmp_path):
        raise ValueError("something else")
