"""Order, sharding, resuming, padding and policies of the Grain pipeline."""

import dataclasses
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest

from stjax.data.base import ClipSpec
from stjax.data.pipeline import batches, make_dataset
from stjax.data.sources import open_source
from stjax.data.transforms import Augment, crop_resize
from stjax.errors import UserError

SPEC = ClipSpec(2, 3, 4, 6, ("a", "b"), (1,), "float32", offset=(5, 7), scale=(2, 3))


@dataclasses.dataclass
class Noise:
    """Float clips that name their index and depend on the rng; holes on request."""

    count: int = 10
    holes: tuple = ()  # (index, frame, value)
    broken: tuple = ()
    short: tuple = ()
    spec: ClipSpec = SPEC

    def __len__(self):
        return self.count

    def clip(self, index, rng):
        if index in self.broken:
            raise UserError(f"clip{index}.avi: is truncated")
        video = rng.random((5, 4, 6, 2), np.float32)
        video[:, 0, 0] = index
        for which, frame, value in self.holes:
            if which == index:
                video[frame, 1, 2] = value
        clip = {"input": video[:2], "target": video[2:, ..., 1:]}
        if index in self.short:
            clip["target"] = clip["target"][:1]
        return clip


@pytest.fixture(scope="module")
def digits():
    return open_source("moving_digits", size=16, digit_size=7, t_in=2, t_out=2)


def take(iterator, n):
    return list(itertools.islice(iterator, n))


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key])


def indices(batch):
    return batch["input"][:, 0, 0, 0, 0].astype(int).tolist()


def test_shapes_and_types(digits):
    batch = make_dataset(digits, batch=3, train=True)[0]
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "input": ((3, 2, 16, 16, 1), "uint8"),
        "target": ((3, 2, 16, 16, 1), "uint8"),
        "weight": ((3,), "float32"),
        "replaced": ((3,), "bool"),
    }
    batch = make_dataset(Noise(), batch=3, train=True, nan="mask")[0]
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "input": ((3, 2, 4, 6, 2), "float32"),
        "target": ((3, 3, 4, 6, 1), "float32"),
        "weight": ((3,), "float32"),
        "replaced": ((3,), "bool"),
        "mask": ((3, 3, 4, 6, 1), "uint8"),
    }


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_read_what_one_host_reads(hosts, train):
    source = Noise(18)
    fields = {"batch": 8, "seed": 3, "train": train, "nan": "mask"}
    whole = make_dataset(source, **fields)
    parts = [make_dataset(source, **fields, shard=(p, hosts)) for p in range(hosts)]
    steps = 5 if train else len(whole)
    assert train or [len(part) for part in parts] == [3] * hosts
    for step in range(steps):
        own = [part[step] for part in parts]
        for key, expected in whole[step].items():
            together = np.concatenate([b[key] for b in own])
            np.testing.assert_array_equal(together, expected)
    if train:
        a, b = parts[0][0]["input"], parts[1][0]["input"]
        assert (a != b).any()


def test_every_epoch_is_a_new_permutation_with_new_randomness():
    data = make_dataset(Noise(8), batch=4, seed=1, train=True)
    epochs = [[data[2 * e], data[2 * e + 1]] for e in range(3)]
    orders = [indices(a) + indices(b) for a, b in epochs]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    clips = {
        clip[:, 1:].tobytes() for pair in epochs for b in pair for clip in b["input"]
    }
    assert len(clips) == 24
    other = make_dataset(Noise(8), batch=4, seed=2, train=True)[0]
    assert (other["input"] != epochs[0][0]["input"]).any()


def test_evaluation_pads_the_last_batch_with_weight_zero():
    data = make_dataset(Noise(10), batch=4, train=False)
    with batches(data) as it:
        got = list(it)
    assert [indices(b) for b in got][:2] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert indices(got[2])[:2] == [8, 9]
    assert [b["weight"].tolist() for b in got] == [[1] * 4, [1] * 4, [1, 1, 0, 0]]
    # A batch larger than the data, shared by hosts that have nothing of their own.
    parts = [
        make_dataset(Noise(3), batch=8, train=False, shard=(p, 4)) for p in range(4)
    ]
    assert [len(p) for p in parts] == [1] * 4
    found = [p[0]["weight"].tolist() for p in parts]
    assert found == [[1, 1], [1, 0], [0, 0], [0, 0]]


def test_number_of_workers_does_not_change_batches(digits):
    data = make_dataset(digits, batch=4, seed=5, train=True)
    expected = [data[step] for step in range(3, 8)]
    for workers in (0, 1, 2):
        with batches(data, start=3, workers=workers) as it:
            assert_same(take(it, 5), expected)


def test_resuming_at_a_step_gives_the_tail():
    for train in (True, False):
        data = make_dataset(Noise(18), batch=4, seed=5, train=train)
        with batches(data) as it:
            whole = take(it, 5)
        with batches(data, start=2) as it:
            assert_same(take(it, 3), whole[2:])
    with batches(data, start=5) as it:
        assert take(it, 1) == []


def test_closing_stops_and_may_be_repeated():
    it = batches(make_dataset(Noise(), batch=2, train=True))
    next(it)
    it.close()
    it.close()
    assert list(it) == []


SCRIPT = """
from stjax.data.pipeline import batches, make_dataset
from stjax.data.sources import open_source

if __name__ == "__main__":
    source = open_source("moving_digits", size=16, digit_size=7)
    data = make_dataset(source, batch=2, train=True)
    with batches(data, workers=1) as it:
        print(next(it)["input"].shape)
"""


def test_plain_script_with_workers_ends_quietly(tmp_path):
    # Nobody parses absl's flags here, and `it` lives until Python's exit.
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "(2, 10, 16, 16, 1)\n"), done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def test_dataset_pickles(digits):
    data = make_dataset(digits, batch=4, seed=5, train=True)
    assert_same([pickle.loads(pickle.dumps(data))[7]], [data[7]])
    augmented = Augment(digits, crop=0.9, flip="horizontal")
    rng = np.random.default_rng
    a = pickle.loads(pickle.dumps(augmented)).clip(3, rng(1))
    assert_same([a], [augmented.clip(3, rng(1))])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(value):
    data = make_dataset(Noise(holes=((6, 4, value),)), batch=4, train=False)
    data[0]
    with pytest.raises(UserError, match=r"clip 6, frame 4: .*data\.nan=mask"):
        data[1]
    data = make_dataset(Noise(holes=((1, 1, value),)), batch=4, train=False)
    with (
        pytest.raises(UserError, match="clip 1, frame 1"),
        batches(data) as it,
    ):
        next(it)


def test_values_that_are_not_finite_are_masked():
    holes = ((1, 1, np.nan), (1, 3, -np.inf))
    plain = make_dataset(Noise(), batch=4, seed=2, train=False, nan="mask")[0]
    batch = make_dataset(Noise(holes=holes), batch=4, seed=2, train=False, nan="mask")[
        0
    ]
    hole = np.zeros((4, 5, 4, 6), bool)
    hole[1, [1, 3], 1, 2] = True
    expected_mask = np.where(hole[:, 2:, ..., None], 0, 1)
    np.testing.assert_array_equal(batch["mask"], expected_mask)
    assert (plain["mask"] == 1).all()
    # What the model sees, (raw - offset) / scale, is 0 in the holes.
    np.testing.assert_array_equal(batch["input"][hole[:, :2]], [[5, 7]])
    np.testing.assert_array_equal(batch["target"][hole[:, 2:]], [[7]])
    for key, part in (("input", hole[:, :2]), ("target", hole[:, 2:])):
        np.testing.assert_array_equal(batch[key][~part], plain[key][~part])


def test_bad_clips():
    source = Noise(broken=(2, 5), short=(9,))
    data = make_dataset(source, batch=5, train=False)
    with pytest.raises(UserError, match="clip2.avi"):
        data[0]
    only_short = make_dataset(Noise(short=(9,)), batch=5, train=False)
    with pytest.raises(
        UserError, match=r"clip 9: its target is float32 \(1, 4, 6, 1\)"
    ):
        only_short[1]
    # Replaced, never dropped; and not counted in evaluation.
    data = make_dataset(source, batch=5, train=False, bad="replace")
    assert [data[i]["weight"].tolist() for i in (0, 1)] == [
        [1, 1, 0, 1, 1],
        [0, 1, 1, 1, 0],
    ]
    data = make_dataset(source, batch=5, train=True, bad="replace")
    seen = [data[i] for i in range(6)]
    assert all(b["weight"].tolist() == [1] * 5 for b in seen)
    assert not {2, 5, 9} & {i for b in seen for i in indices(b)}
    data = make_dataset(Noise(3, broken=(0, 1, 2)), batch=2, train=True, bad="replace")
    with pytest.raises(UserError, match="10 clips in a row"):
        data[0]


def test_error_in_a_worker_reaches_the_caller():
    data = make_dataset(Noise(broken=(2,)), batch=5, train=False)
    with (
        pytest.raises(UserError, match="clip2.avi: is truncated"),
        batches(data, workers=1) as it,
    ):
        next(it)


def test_requests_that_cannot_be_met():
    cases = [
        ({"batch": 6, "shard": (0, 4)}, "batch=6 cannot be shared by 4 hosts"),
        ({"batch": 0}, "batch=0"),
        ({"batch": 2, "seed": -1}, "seed=-1"),
        ({"batch": 2, "nan": "maks"}, "did you mean 'mask'"),
        ({"batch": 2, "bad": "drop"}, "unknown value of data.bad 'drop'"),
    ]
    for fields, says in cases:
        with pytest.raises(UserError, match=says):
            make_dataset(Noise(), train=True, **fields)
    with pytest.raises(UserError, match="no clips"):
        make_dataset(Noise(0), batch=2, train=True)
    with pytest.raises(UserError, match="did you mean 'tf.data'"):
        batches(make_dataset(Noise(), batch=2, train=True), backend="tfdata")


class Script:
    """Stands in for a Generator: `random` returns known draws."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def random(self, size, dtype=None):
        return np.array(self.draws.pop(0), float)


class Ramp:
    """One clip whose pixels are all different."""

    spec = ClipSpec(1, 1, 2, 3)

    def __len__(self):
        return 1

    def clip(self, index, rng):
        video = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1)
        return {"input": video[:1], "target": video[1:]}


@pytest.mark.parametrize(
    ("flip", "draws", "rows", "columns"),
    [
        ("none", (0, 0, 0), 1, 1),
        ("horizontal", (0.49, 0, 0), 1, -1),
        ("horizontal", (0.51, 0, 0), 1, 1),
        ("moving_mnist", (0.74, 0, 0), -1, -1),
        ("moving_mnist", (0.76, 0.74, 0), -1, 1),
        ("moving_mnist", (0.76, 0.76, 0.74), 1, -1),
        ("moving_mnist", (0.76, 0.76, 0.76), 1, 1),
    ],
)
def test_flips_turn_input_and_target_alike(flip, draws, rows, columns):
    plain = Ramp().clip(0, None)
    got = Augment(Ramp(), flip=flip).clip(0, Script((0, 0), draws))
    for key in plain:
        np.testing.assert_array_equal(got[key], plain[key][:, ::rows, ::columns])


def test_crop_is_a_window_of_the_bilinear_enlargement():
    rng = np.random.default_rng(0)
    video = rng.random((2, 10, 12, 3), np.float32)
    got = crop_resize(video, 0.5, np.array([0.35, 0.999]))
    # Doubling, half-pixel centres: new pixels lie 1/4 to each side of an old one.
    large = video
    for axis in (1, 2):
        n = large.shape[axis]
        edges = [(1, 1) if a == axis else (0, 0) for a in range(4)]
        padded = np.pad(large, edges, mode="edge")
        near = [
            0.75 * large + 0.25 * padded.take(range(i, n + i), axis) for i in (0, 2)
        ]
        shape = [2 * n if a == axis else large.shape[a] for a in range(4)]
        large = np.stack(near, axis + 1).reshape(shape)
    top, left = int(0.35 * 11), 12
    np.testing.assert_allclose(
        got, large[:, top : top + 10, left : left + 12], rtol=1e-6
    )
    assert crop_resize(np.full((1, 8, 8, 1), 9, np.uint8), 0.9, [0.5, 0.5]).max() == 9


def test_augment_bad_fields():
    with pytest.raises(UserError, match="crop=1.5"):
        Augment(Ramp(), crop=1.5)
    with pytest.raises(UserError, match="did you mean 'horizontal'"):
        Augment(Ramp(), flip="horizontaly")
