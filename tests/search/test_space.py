"""Spaces: which strategies there are, what they cost, what names them."""

import dataclasses

import jax
import numpy as np
import pytest

from stjax.config import base_config
from stjax.data.base import ClipSpec, LabelSpec
from stjax.errors import UserError
from stjax.layers.slots import Slot
from stjax.macs import count_macs
from stjax.search import strategy as strategies
from stjax.search.allowed import allowed_units
from stjax.search.space import create_space, plain_config
from stjax.training.state import build_model, count_params, init_variables

SPEC = LabelSpec(t_in=4, height=8, width=8, classes=("a", "b"), channels=("grey",))


def toy(**search):
    config = base_config()
    with config.unlocked():
        config.model = {"name": "fusion_toy", "depth": 3, "width": 4}
        config.data.source = "appearance"
        config.train.steps = 1
        config.search.update(gate="categorical", **search)
    return config


@pytest.fixture(scope="module")
def space():
    return create_space(toy(), SPEC)


def test_size_and_listing(space):
    listed = list(space)
    assert space.size == len(listed) == len(set(listed)) == 27
    assert listed[0] == ("S", "S", "S") and listed[1] == ("S", "S", "ST")
    assert space.uniform == {u: (u,) * 3 for u in ("S", "ST", "S+ST")}


@pytest.mark.parametrize("text", ["sss", "ttt", "+++", "s+t"])
def test_costs_are_those_of_the_network_itself(space, text):
    strategy = strategies.parse_strategy(text, space)
    model = build_model(plain_config(toy(), strategy), SPEC)
    variables = jax.eval_shape(lambda: init_variables(model, SPEC, 0))
    cost = space.cost(strategy)
    assert cost.params == count_params(variables["params"])
    x = jax.ShapeDtypeStruct((1, *SPEC.input_shape), np.float32)

    assert cost.macs == count_macs(model.apply, variables, x)


def test_costs_of_paths(space):
    # 1x1x1 and 3x1x1 of 4 channels on 4 x 4 x 4 places.
    paths = space.path_costs()["block_1"]
    assert (paths["s"].params, paths["t"].params) == (16, 48)
    assert (paths["s"].macs, paths["t"].macs) == (16 * 64, 48 * 64)


def test_restrictions(space):
    config = toy(units=("block_*=ST,S+ST", "block_1=S"))
    small = create_space(config, SPEC)
    assert small.units == (("ST", "S+ST"), ("S",), ("ST", "S+ST"))
    assert small.hash != space.hash and small.uniform == {}
    with pytest.raises(UserError, match="unit 'S' of slot 'block_0' is not in this"):
        small.cost(("S", "S", "ST"))
    same = allowed_units(space.slots, {"block_*": ("ST", "S+ST"), "block_1": "S"})
    assert same == small.units


def test_hash_is_of_slots_and_units_not_of_widths(space):
    config = toy()
    config.model.width = 8
    assert create_space(config, SPEC).hash == space.hash
    config.model.depth = 2
    assert create_space(config, SPEC).hash != space.hash


def test_random_strategies(space):
    drawn = space.random(10, seed=1)
    assert len(set(drawn)) == 10 and drawn == space.random(10, seed=1)
    assert drawn != space.random(10, seed=2)
    assert len(space.random(100, seed=1)) == 27


def test_a_large_space_is_not_listed(space):
    large = dataclasses.replace(
        space,
        slots=tuple(Slot(f"b{i}", space.slots[0].units, ()) for i in range(61)),
        units=(space.units[0],) * 61,
    )
    assert large.size == 3**61
    with pytest.raises(UserError, match="too many"):
        next(iter(large))


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (("block_9=S",), "no slot matches 'block_9'"),
        (("block_1=",), "space is empty: search.units leaves no unit for 'block_1'"),
        (("block_1=XT",), "unknown unit of block_1 'XT'"),
        (("block_1",), "expected PATTERN=UNIT"),
        (("block_*=S",), "one strategy only"),
    ],
)
def test_spaces_that_cannot_be(units, message):
    with pytest.raises(UserError, match=message):
        create_space(toy(units=units), SPEC)


def test_a_model_without_slots():
    config = toy()
    with config.unlocked():
        config.model = {"name": "tau", "hid_s": 4, "hid_t": 8, "n_s": 2, "n_t": 2}
    with pytest.raises(UserError, match="space is empty: this model has no slots"):
        create_space(config, ClipSpec(2, 2, 16, 16))


# --- strategies as files and words


def test_files(space, tmp_path):
    file = tmp_path / "s.json"
    strategies.write_strategy(file, space, ("S", "ST", "S+ST"))
    assert strategies.read_strategy(file, space) == ("S", "ST", "S+ST")
    assert set(strategies.to_dict(space, ("S",) * 3)) == {
        *("format", "model", "slots", "units")
    }
    other = toy()
    other.model.depth = 2
    with pytest.raises(UserError, match="of another space: fusion_toy with 3 slots"):
        strategies.read_strategy(file, create_space(other, SPEC))
    with pytest.raises(UserError, match="not in this space"):
        few = create_space(toy(units=("block_0=ST,S+ST",)), SPEC)
        strategies.read_strategy(file, few)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no strategy file"),
        ('{"units": []}', "expected JSON with format, model"),
        ('{"format": 7, "model": "", "slots": [], "units": []}', "format 7"),
    ],
)
def test_files_that_are_none(space, tmp_path, content, message):
    file = tmp_path / "s.json"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        strategies.read_strategy(file, space)
    with pytest.raises(UserError, match="no strategy file"):
        strategies.read_strategy(tmp_path / "none.json", space)


def test_words(space):
    parse = strategies.parse_strategy
    assert parse("st+", space) == ("S", "ST", "S+ST")
    assert parse("S, ST,S+ST", space) == ("S", "ST", "S+ST")
    assert parse("S+ST", space) == ("S+ST",) * 3
    assert parse("mode", space, {"mode": ("S",) * 3}) == ("S",) * 3
    assert strategies.short(space, ("S", "ST", "S+ST")) == "st+"
    for text, message in (
        ("st", "2 units, the space of fusion_toy 3 slots"),
        ("xyz", "expected a .json file"),
        ("S,ST", "2 units"),
    ):
        with pytest.raises(UserError, match=message):
            parse(text, space)


def test_letters_of_other_units(space):
    units = tuple((name, ()) for name in ("static", "dynamic", "both", "S", "sum"))
    slots = (Slot("a", units, ()),)
    found = strategies.letters(dataclasses.replace(space, slots=slots))
    assert len(set(found.values())) == 5 and found["S"] == "s"
    assert found["dynamic"] == "d" and found["both"] == "b"


def test_published_strategies_have_names(space):
    known = strategies.known_strategies(space, ("S",) * 3)
    assert known == {"mode": ("S",) * 3}
    resnet = dataclasses.replace(space, model="fusion_resnet50")
    known = strategies.known_strategies(resnet, ("S",) * 3)
    assert known["ucf101"] == ("S+ST",) * 16
    with pytest.raises(UserError, match="16 units, the space of fusion_resnet50 3"):
        strategies.parse_strategy("ucf101", resnet, known)
