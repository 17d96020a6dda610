"""The template: what it adds to a model, and what it leaves alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from little import Ahead, Little

from stjax.config import base_config, validate
from stjax.data.base import ClipSpec, LabelSpec
from stjax.errors import UserError
from stjax.layers.common import grouped_batch_norm
from stjax.layers.slots import Slot, hard_masks
from stjax.models.fusion_toy import FusionToy
from stjax.optim import create_optimizer
from stjax.search import gates
from stjax.search.template import Template, built_units, sqnorm
from stjax.sharding.mesh import make_mesh, put_batch
from stjax.training.state import build_model, create_state, state_shardings

N = 50
SPEC = LabelSpec(t_in=5, height=2, width=2, classes=("a", "b"), channels=("x",))


@pytest.fixture(scope="module")
def clips():
    return jax.random.normal(jax.random.key(0), (8, 5, 2, 2, 1))


def template(gate="categorical", **fields):
    fields = {"n_train": N, "weight_reg": 0.7, "p_init": 0.3, **fields}
    return Template(Little(), gate=gate, **fields)


@pytest.fixture(scope="module")
def variables(clips):
    keys = {"params": jax.random.key(1), "dropout": jax.random.key(2)}
    found = template().init(keys, clips)
    found.pop("losses", None)
    return found


def trained(model, variables, x, key=3, **kwargs):
    return model.apply(
        variables,
        x,
        train=True,
        rngs={"dropout": jax.random.key(key)},
        mutable=["batch_stats", "losses"],
        **kwargs,
    )


def with_logits(variables, **logits):
    found = {f"block_{k[1]}.fused": jnp.float32(v) for k, v in logits.items()}
    params = {**variables["params"], "gates": found}
    return {**variables, "params": params}


def test_the_models_variables_and_gates(clips, variables):
    own = Little().init(jax.random.key(1), clips)
    have = flatten_dict(variables["params"], sep="/")
    gate = {k: v for k, v in have.items() if k.startswith("gates/")}
    assert set(gate) == {"gates/block_0.fused", "gates/block_1.fused"}
    assert all(v.shape == (3,) and v.dtype == jnp.float32 for v in gate.values())
    plain = flatten_dict(own["params"], sep="/")
    assert set(have) - set(gate) == set(plain)
    for name, value in plain.items():
        np.testing.assert_array_equal(value, have[name])
    logits = template("bernoulli").init(jax.random.key(1), clips)["params"]["gates"]
    np.testing.assert_allclose(
        jax.nn.sigmoid(logits["block_0.fused"]), [0.3, 0.3], rtol=1e-6
    )
    wrapped = template()
    assert wrapped.num_classes == 2 and not hasattr(wrapped, "any_length")
    assert not hasattr(wrapped, "uses_target")
    predictor = Template(Ahead(), n_train=N)
    found = predictor.init(jax.random.key(0), clips, frames=3)
    assert not hasattr(predictor, "num_classes") and predictor.features is None
    assert predictor.apply(found, clips, frames=3).shape == (8, 3, 2, 2, 1)
    assert trained(predictor, found, clips, frames=2)[0].shape == (8, 2, 2, 2, 1)


def test_masks_are_strategies(clips, variables):
    """All paths: the network without gates; others: the network without the rest."""
    model, whole = template(), Little()
    slots = model.slots
    y = model.apply(variables, clips, masks=hard_masks(slots, "all"))
    np.testing.assert_array_equal(y, whole.apply(variables, clips))
    for units in itertools.product(slots[0].choices, repeat=2):
        y = model.apply(variables, clips, masks=hard_masks(slots, units))
        part = Little(units=units)
        shapes = jax.eval_shape(lambda part=part: part.init(jax.random.key(0), clips))
        have = flatten_dict(variables)
        kept = {path: have[path] for path in flatten_dict(shapes)}
        from flax.traverse_util import unflatten_dict

        alone = part.apply(unflatten_dict(kept), clips)
        np.testing.assert_allclose(y, alone, atol=1e-5, rtol=0)


def test_a_group_is_a_strategy_in_training():
    """Same masks and batch statistics: the clips of a group see one network."""
    clips = jax.random.normal(jax.random.key(0), (8, 3, 4, 4, 1))
    net = FusionToy(num_classes=2, depth=2, width=3)
    model = Template(net, group=4, straight_through=True, p_init=0.5, n_train=N)
    variables = model.init(jax.random.key(1), clips)
    logits = variables["params"]["gates"]
    drawn = model.apply(
        *(variables, logits, len(clips)),
        method=Template._sample,
        rngs={"dropout": jax.random.key(3)},
    )
    stacked = np.stack(list(drawn.values()), 1)  # [clip, slot, path]
    assert set(np.unique(stacked.round(6))) == {0, 1}
    np.testing.assert_array_equal(stacked[::4].repeat(4, axis=0), stacked)
    assert (stacked[0] != stacked[4]).any()
    with grouped_batch_norm(2):
        y, _ = trained(model, variables, clips)
    params = {k: v for k, v in variables["params"].items() if k != "gates"}
    for part in (slice(4), slice(4, 8)):
        masks = {name: mask[part][0] for name, mask in drawn.items()}
        own, _ = net.apply(
            {**variables, "params": params},
            *(clips[part],),
            train=True,
            masks=masks,
            mutable=["batch_stats"],
        )
        np.testing.assert_allclose(y[part], own, atol=1e-5, rtol=0)
    fewer = model.clone(group=5).apply(
        *(variables, logits, 8),
        method=Template._sample,
        rngs={"dropout": jax.random.key(3)},
    )
    assert {mask.shape for mask in fewer.values()} == {(8, 2)}


@pytest.mark.parametrize("gate", gates.GATES)
def test_evaluation_runs_the_mode_without_randomness(clips, variables, gate):
    logits = {"categorical": ([3, 0, 1], [0, 0.5, 0.2]), "bernoulli": ([-2, 1], [1, 2])}
    mode = {"categorical": ("S", "ST"), "bernoulli": ("S", "S")}
    of = with_logits(variables, **dict(zip(("s0", "s1"), logits[gate], strict=True)))
    model = template(gate)
    y = model.apply(of, clips)  # no rngs
    np.testing.assert_array_equal(y, model.apply(of, clips))
    masks = hard_masks(model.slots, mode[gate])
    np.testing.assert_allclose(y, Little().apply(of, clips, masks=masks), atol=1e-6)
    measured, found = model.measuring.apply(
        of, clips, train=True, mutable=["batch_stats", "losses"]
    )
    assert "losses" not in found
    told = Little().apply(of, clips, train=True, masks=masks, mutable=["batch_stats"])
    np.testing.assert_allclose(measured, told[0], atol=1e-6)


def test_training_draws_for_every_example(clips, variables):
    same = jnp.broadcast_to(clips[:1], clips.shape)
    model = template()
    y, _ = trained(model, variables, same)
    assert len(np.unique(np.round(np.asarray(y)[:, 0], 5))) > 3
    np.testing.assert_array_equal(y, trained(model, variables, same)[0])
    assert not np.allclose(y, trained(model, variables, same, key=4)[0])
    fixed, found = trained(model, variables, clips, masks=hard_masks(model.slots, "S"))
    assert "losses" not in found
    again = trained(model, variables, clips, key=5, masks=hard_masks(model.slots, "S"))[
        0
    ]
    np.testing.assert_array_equal(fixed, again)


def test_the_kl_term_is_what_it_says(clips, variables):
    """By hand: divergence from the prior, and the norms of the kernels of each path."""
    alpha = np.array([0.2, 0.5, 0.3])
    of = with_logits(variables, s0=np.log(alpha), s1=np.log(alpha))
    prior = np.array([0.16, 0.16, 0.64]) / 0.96
    nats = ((("a", 2.0), ("b", 3.0), ("c", 0.0)),) * 2
    for norm, taps in (("per_weight", 1), ("per_function", 3)):
        exact = 2 * (alpha * np.log(alpha / prior)).sum() + 2 * (0.5 * 2 + 0.8 * 3)
        for block in ("block_0", "block_1"):
            fused = of["params"][block]["fused"]
            a, b, c = ((fused[k]["kernel"] ** 2).sum() for k in "abc")
            exact += 0.7 * (0.5 * a + 0.8 * (taps * b + c))
        model = template(norm=norm, nats=nats, prior=0.2)
        (found,) = trained(model, of, clips)[1]["losses"]["gates"]
        np.testing.assert_allclose(found, exact / N, rtol=1e-5)
    weighted = template(unit_prior=(("S", 3.0),)).prior_of(template().slots[0])
    np.testing.assert_allclose(weighted, [0.6, 0.2, 0.2])


def test_the_kl_term_knows_neither_batch_nor_devices(clips, variables):
    """1/N of it, once a step: with 8 clips, 2 clips and 8 devices."""
    model = template()

    def extra(variables, x):
        return sum(jax.tree.leaves(trained(model, variables, x)[1]["losses"]))

    step = jax.jit(jax.value_and_grad(lambda v, x: extra(v, x)))
    one, slope = step(variables, clips)
    few, of_few = step(variables, clips[:2])
    np.testing.assert_allclose(one, few, rtol=1e-6)
    mesh = make_mesh()
    assert mesh.size == 8
    with jax.set_mesh(mesh):
        batch = put_batch(mesh, {"input": np.asarray(clips)})["input"]
        many, of_many = step(variables, batch)
    np.testing.assert_allclose(one, many, rtol=1e-6)
    double = template(n_train=2 * N)
    (half,) = trained(double, variables, clips)[1]["losses"]["gates"]
    np.testing.assert_allclose(half, one / 2, rtol=1e-6)
    for other in (of_few, of_many):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8),
            *(slope["params"], other["params"]),
        )
    with pytest.raises(UserError, match="search.n_train"):
        trained(template(n_train=None), variables, clips)


def test_gates_have_an_optimizer_of_their_own(variables):
    """Adam with search.lr; no decay, clipping, freezing or schedule."""
    params = variables["params"]
    fields = {"lr": 0.1, "total_steps": 10, "weight_decay": 0.5, "clip": 1e-3}
    fields |= {"name": "sgd", "freeze": ("stem",)}
    plain = {k: v for k, v in params.items() if k != "gates"}
    grads = jax.tree.map(lambda p: jnp.full_like(p, 3.0), params)
    tx = create_optimizer(**fields, gates_lr=0.02)
    alone = create_optimizer(**fields)
    updates, state = tx.update(grads, tx.init(params), params)
    expected, _ = alone.update(
        {k: v for k, v in grads.items() if k != "gates"}, alone.init(plain), plain
    )
    moved = updates.pop("gates")
    jax.tree.map(np.testing.assert_array_equal, updates, expected)
    for value in jax.tree.leaves(moved):  # the first step of Adam: lr times the sign
        np.testing.assert_allclose(value, -0.02, rtol=1e-6)
    assert set(tx.trained(grads)) == {"gates", "norm", "block_0", "block_1", "head"}
    state = jax.eval_shape(lambda: create_state(dict(variables), tx))
    mesh = make_mesh(fsdp=8)
    where = state_shardings(state, mesh)
    leaves = [where.params["gates"], where.opt_state.gates]
    assert all(s.is_fully_replicated for s in jax.tree.leaves(leaves))


def test_a_template_builds_only_what_its_units_need():
    units = (("S", ("s",)), ("T", ("t",)), ("U", ("u",)), ("S+T", ("s", "t")))
    slot = Slot("x", units, (("s", ("s",)), ("t", ("t",)), ("u", ("u",))))
    assert built_units([slot], [slot.choices]) == "all"
    allowed = [("S", "T"), ("S", "U"), ("T",)]
    assert built_units([slot] * 3, allowed) == ("S+T", "all", "T")
    restricted = Template(Little(units="S+ST"), units=(("S", "ST"), ("S+ST",)))
    assert [s.choices for s in restricted.slots] == [("S", "ST"), ("S+ST",)]
    assert restricted.slots[0].paths == ("s", "t")
    logits = restricted.initial_logits()
    assert [v.shape for v in logits.values()] == [(2,), (1,)]
    own = {"x": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "t": {}}}
    own["x"]["s"] = {"kernel": jnp.full((2, 2, 2, 3, 3), 2.0), "bias": jnp.ones(3)}
    norms = [sqnorm(own, slot, m, "per_function") for m in ("", "s", "t")]
    np.testing.assert_allclose(norms, [6, 2 * 72 * 4, 0])


def searching(**fields):
    config = base_config()
    with config.unlocked():
        config.model.name = "little:Little"
        config.data.source = "order_ladder"
        config.train.steps = 1
        config.search.update({"gate": "categorical", **fields})
    return config


def test_the_template_of_a_config():
    config = searching(units=("block_0*=S,ST",), unit_prior=("ST=2",), p_init=0.2)
    validate(config)
    model = build_model(config, SPEC)
    assert isinstance(model, Template) and model.model.num_classes == 2
    assert [s.choices for s in model.slots] == [("S", "ST"), ("S", "ST", "S+ST")]
    assert (model.p_init, model.unit_prior) == (0.2, (("ST", 2.0),))
    costly = build_model(searching(cost_weight=6.0), SPEC)
    # Parameters of the paths: 16 of s, 48 + 16 of t, their mean is 40.
    expected = {"a": 2.4, "b": 7.2, "c": 2.4}
    for slot in costly.nats:
        assert {k: pytest.approx(v) for k, v in slot} == expected
    config = searching()
    config.model.name = "little:Ahead"
    spec = ClipSpec(t_in=3, t_out=2, height=2, width=2)
    assert build_model(config, spec).slots[0].name == "fused"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gate": "bernouli"}, "did you mean 'bernoulli'"),
        ({"objective": "paper_eq5"}, "set search.gate to 'bernoulli'"),
        ({"prior": 1.0}, "search.prior=1.0 must lie between 0 and 1"),
        ({"temperature": 0.0}, "search.temperature=0.0 must be above 0"),
        ({"group": 0}, "search.group=0; it has to be at least 1"),
        ({"weight_reg": -1.0}, "must not be negative"),
        ({"objective": "code", "cost_weight": 1.0}, "search.objective is 'code'"),
        ({"gate": "bernoulli", "unit_prior": ("S=1",)}, "set search.prior"),
        ({"unit_prior": ("S=0",)}, "expected UNIT=WEIGHT"),
        ({"n_train": 0}, "at least 1"),
    ],
)
def test_a_search_that_makes_no_sense(fields, message):
    with pytest.raises(UserError, match=message):
        validate(searching(**fields))


def test_a_search_that_does_not_suit_the_model():
    config = searching(unit_prior=("SS=1",))
    with pytest.raises(UserError, match="unit in search.unit_prior 'SS'"):
        build_model(config, SPEC)
    config = searching()
    with config.unlocked():
        config.model.units = "S"
    with pytest.raises(UserError, match=r"model.units='S' chooses a strategy"):
        build_model(config, SPEC)
    config.model.name, config.model.units = "linear_probe", None
    with config.unlocked():
        config.model.backbone = "uniformer_s"
    with pytest.raises(UserError, match="no slots to choose units in"):
        build_model(config, SPEC)
