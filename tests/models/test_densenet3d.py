"""Networks with fusion units: exact sizes, multiply-adds, strategies, bad fields."""

import functools
import math

import jax
import jax.numpy as jnp
import pytest

import stjax
from stjax.errors import UserError
from stjax.macs import count_macs, macs_by_scope
from stjax.search.published import STRATEGIES, published_strategy
from stjax.training.state import count_params

# Parameters with 174 classes and GMAC of 16 frames of 224x224: measured on the
# original project's networks.
SIZES = {
    "densenet121_3d": {
        "S": (7_169_838, 52.88),
        "ST": (16_615_214, 100.00),
        "S+ST": (21_404_526, 123.56),
        "ssv1": (19_616_750, None),
        "ssv2": (19_773_806, None),
    },
    "fusion_resnet50": {
        "S": (23_902_190, 72.9),
        "ST": (32_561_134, 103.0),
        "S+ST": (36_890_606, 118.0),
        "ssv1": (35_448_814, 112.2),
    },
    "fusion_resnext50": {
        "S": (23_374_062, 75.2),
        "ST": (40_691_950, 135.2),
        "S+ST": (49_350_894, 165.2),
        "ssv1": (46_467_310, 153.7),
    },
    "fusion_resnext101": {
        "S": (87_136_494, 270),
        "ST": (157_423_854, 502),
        "S+ST": (192_567_534, 618),
        "ssv1": (178_411_758, 569),
    },
}


def shapes_of(model, clip=(16, 224, 224, 3)):
    x = jax.ShapeDtypeStruct((1, *clip), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda k, x: model.init(k, x), key, x), x


@functools.cache
def costs(name, **fields):
    """Template, its variables and fixed cost, and that of every path of every slot.

    A cost is parameters and multiply-adds; all comes from one trace.
    """
    model = stjax.create_model(name, num_classes=174, **fields)
    x, made = jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.float32), []

    def call(key, x):
        y, variables = model.init_with_output(key, x)
        made.append(
            jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), variables)
        )
        return y

    macs = macs_by_scope(call, jax.eval_shape(lambda: jax.random.key(0)), x)
    (variables,) = made
    found, rest = {}, [count_params(variables["params"]), macs.total()]
    for slot in model.slots:
        found[slot.name] = {}
        for path, modules in slot.modules:
            params = sum(_params(variables, f"{slot.name}/{m}") for m in modules)
            mine = [f"{slot.name}/{m}" for m in modules]
            products = sum(v for k, v in macs.items() if _inside(k, mine))
            found[slot.name][path] = (params, products)
            rest = [a - b for a, b in zip(rest, (params, products), strict=True)]
    return model, variables, rest, found


def _params(variables, path):
    tree = variables["params"]
    for name in path.split("/"):
        tree = tree[name]
    return count_params(tree)


def _inside(scope, modules):
    return any(scope == m or scope.startswith(m + "/") for m in modules)


def cost(name, units, **fields):
    """Parameters and multiply-adds of a network by its template's paths."""
    model, _, (params, macs), found = costs(name, **fields)
    units = (units,) * len(model.slots) if isinstance(units, str) else units
    for slot, unit in zip(model.slots, units, strict=True):
        for path in slot.kept(unit):
            params += found[slot.name][path][0]
            macs += found[slot.name][path][1]
    return params, macs


@pytest.mark.parametrize("name", SIZES)
def test_sizes_as_published(name):
    """Of every strategy from one trace of the template."""
    for strategy, (params, gmac) in SIZES[name].items():
        known = strategy in ("S", "ST", "S+ST")
        units = strategy if known else published_strategy(name, strategy)
        found, macs = cost(name, units)
        assert found == params
        if gmac is not None:
            digits = len(str(gmac).partition(".")[2])
            if name == "densenet121_3d":
                digits = 2
            assert macs / 1e9 == pytest.approx(gmac, abs=0.5 * 10**-digits + 0.05)


@pytest.mark.parametrize(
    ("name", "fields", "units"),
    [
        ("densenet121_3d", {"blocks": (2, 1)}, ("S", "ST", "S+ST", "ST")),
        ("fusion_resnext50", {}, published_strategy("fusion_resnext50", "ssv1")),
        (
            "fusion_mobilenetv2",
            {"stages": ((1, 8, 1, 2), (6, 8, 2, 2))},
            ("ST", "S"),
        ),
    ],
)
def test_template_tells_what_a_network_costs(name, fields, units):
    """The sum over the paths of a strategy is the count of its network."""
    model = stjax.create_model(name, num_classes=174, units=units, **fields)
    variables, x = shapes_of(model)
    counted = count_params(variables["params"]), count_macs(model.apply, variables, x)
    assert counted == cost(name, units, **fields)


def test_other_classes():
    """Kinetics and UCF101: the classifier and the strategies differ."""
    classifier = 1024 + 1
    fewer = cost("densenet121_3d", published_strategy("densenet121_3d", "kinetics400"))
    assert fewer[0] + (400 - 174) * classifier == 18_309_584
    fewer = cost("densenet121_3d", published_strategy("densenet121_3d", "ucf101"))
    assert fewer[0] + (101 - 174) * classifier == 21_329_701


def test_temporal_stride():
    """The paper's "31 GFLOPs" are those of a network that reduces time by 8."""
    model = stjax.create_model("densenet121_3d", num_classes=174, temporal_stride=8)
    _, variables, _, _ = costs("densenet121_3d")
    x = jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.float32)
    macs = count_macs(model.apply, variables, x)
    assert round(macs / 1e9, 2) == 23.97
    classifier = 1024 * 174
    larger = (macs - classifier) * (256 / 224) ** 2 + classifier
    assert round(larger / 1e9, 2) == 31.31
    small = stjax.create_model("densenet121_3d", blocks=(1, 1), temporal_stride=8)
    variables, x = shapes_of(small, (16, 32, 32, 3))
    out = jax.eval_shape(
        lambda v, x: small.apply(v, x, method="features"), variables, x
    )
    assert out.shape[1:4] == (2, 4, 4)


def test_general_set():
    """With T a quarter more parameters (the supplement), in dense layers only."""
    small = {"blocks": (1, 1), "num_classes": 174}
    model = stjax.create_model("densenet121_3d", temporal_only=True, **small)
    params = shapes_of(model)[0]["params"]["features"]

    def added(channels):
        """Norms, 1x1x1 to 128, 3x1x1 to 32."""
        return 2 * channels + 128 * channels + 2 * 128 + 3 * 128 * 32

    time = params["denseblock1"]["denselayer1"]["time"]
    assert count_params(time) == added(64)
    starts = ((64, 6), (128, 12), (256, 24), (512, 16))
    total = sum(added(c + 32 * i) for c, layers in starts for i in range(layers))
    assert 0.2 < total / SIZES["densenet121_3d"]["S+ST"][0] < 0.25
    assert [len(slot.units) for slot in model.slots] == [7, 3, 7]


def test_mobilenet():
    """torchvision's number with 1,000 classes; 3x1x1 and its BN for each expansion."""
    model = stjax.create_model("fusion_mobilenetv2", num_classes=1000)
    params = count_params(shapes_of(model)[0]["params"])
    ends = ((16, 1), (24, 2), (32, 3), (64, 4), (96, 3), (160, 3))
    temporal = sum(count * (3 * 6 * c * c + 2 * 6 * c) for c, count in ends)
    assert params == 3_504_872 + temporal
    assert len(model.slots) == 16


def test_published_strategies():
    for name, of in STRATEGIES.items():
        slots = stjax.create_model(name).slots
        for dataset in of:
            assert len(published_strategy(name, dataset)) == len(slots)
    units = published_strategy("densenet121_3d", "ssv1")
    assert [units.count(u) for u in ("S", "ST", "S+ST")] == [1, 19, 41]  # figure 4
    units = published_strategy("densenet121_3d", "ssv2")
    assert [units.count(u) for u in ("S", "ST", "S+ST")] == [0, 18, 43]
    units = published_strategy("densenet121_3d", "kinetics400")
    assert [units.count(u) for u in ("S", "ST", "S+ST")] == [12, 9, 40]
    with pytest.raises(UserError, match="unknown data set with a strategy"):
        published_strategy("densenet121_3d", "ssv3")


def test_slots_in_order():
    slots = stjax.create_model("densenet121_3d").slots
    names = [slot.name for slot in slots]
    assert len(slots) == 61 and math.prod(len(s.units) for s in slots) == 3**61
    assert names[5:8] == [
        "features/denseblock1/denselayer6",
        "features/transition1",
        "features/denseblock2/denselayer1",
    ]


@pytest.mark.parametrize(
    ("fields", "clip", "message"),
    [
        ({"temporal_stride": 2}, (8, 32, 32, 3), "temporal_stride is 2; it has to be"),
        ({"temporal_stride": 8}, (4, 32, 32, 3), "at least 8 frames of 32x32, got 4"),
        ({}, (4, 16, 32, 3), "at least 1 frames of 32x32, got 4 of 16x32"),
        ({}, (32, 32, 3), r"clips are \[B, T, H, W, C\]"),
        ({"remat": "some"}, (4, 32, 32, 3), "remat"),
    ],
)
def test_bad_input(fields, clip, message):
    model = stjax.create_model("densenet121_3d", blocks=(1,), **fields)
    with pytest.raises(UserError, match=message) as error:
        shapes_of(model, clip)
    assert "\n" not in str(error.value)
