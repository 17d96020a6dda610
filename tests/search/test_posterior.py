"""The distribution over strategies: figure 4, drawing, constraints."""

import collections
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from stjax.errors import UserError
from stjax.layers.slots import Slot
from stjax.search import gates
from stjax.search.posterior import Posterior

UNITS = (("S", ("s",)), ("ST", ("t",)), ("S+ST", ("s", "t")))
PATHS = (("s", ("s",)), ("t", ("t",)))
FIG4 = json.loads((Path(__file__).parents[1] / "golden" / "fig4.json").read_text())
# The strategies that the paper found best: s S, t ST, + S+ST.
FOUND = {
    "SSv1": "+++++ts+++t+++++++t+++++++++++t++tt++t+tttt++tttt+t+++++t+tt+",
    "SSv2": "+++++t++++++t+++t++++++++++++++t+t++tt+t+++t+++ttt+tt++t+tt+t",
    "K400": "s++++++++++s+ss+sss++t+++++s++++++++++t+ssss++t+tttt++t+++t++",
    "UCF101": "+" * 61,
}


def slots(names):
    return tuple(Slot(name, UNITS, PATHS) for name in names)


def published(name):
    """The learned distribution of a data set, from its drop probabilities."""
    bars = FIG4[name]
    p = np.array([bars["pS"], bars["pT"]]).T
    logits = dict(zip(bars["layers"], np.log(p / (1 - p)), strict=True))
    return Posterior("bernoulli", slots(bars["layers"]), logits)


def strategy(name):
    units = {"s": "S", "t": "ST", "+": "S+ST"}
    return tuple(units[c] for c in FOUND[name])


def three(gate="categorical", seed=0):
    """A small one: three slots, arbitrary logits."""
    rng = np.random.default_rng(seed)
    size = 3 if gate == "categorical" else 2
    logits = {f"s{i}": rng.normal(0, 1, size) for i in range(3)}
    return Posterior(gate, slots(logits), logits)


class Cost:
    def __init__(self, units):
        each = {"S": 1, "ST": 3, "S+ST": 4}
        self.params = 100 + sum((i + 1) * each[u] for i, u in enumerate(units))
        self.macs = 1000 * self.params


@pytest.mark.parametrize("name", FIG4)
def test_bars_of_figure_4(name):
    """Bars have three digits, p four; the product rule holds to 5e-4 in the drawing."""
    bars, found = FIG4[name], published(name).marginals("eq7")
    most = 1e-3 + 2.5e-5 * sum(np.float64(bars[key]) ** -0.5 for key in ("pS", "pT"))
    for unit, key in (("S", "S"), ("ST", "ST"), ("S+ST", "SST")):
        p = [found[layer][unit] for layer in bars["layers"]]
        assert (abs(p - np.float64(bars[key])) < most).all()


# Mean probability of S, ST, S+ST and none; expected layers with S, ST, S+ST; the same
# under equation 7; layers whose unit is the most probable one under it; P(no empty
# layer); bits. All as printed in the analysis of the figure.
TABLE = {
    "SSv1": [(0.06, 0.28, 0.64, 0.016), (3.7, 17, 39), (8, 24, 21), 0.61, 0.37, 69],
    "SSv2": [(0.05, 0.29, 0.64, 0.015), (3.3, 18, 39), (8, 25, 21), 0.66, 0.40, 68],
    "UCF101": [(0.11, 0.09, 0.79, 0.013), (6.5, 5.8, 48), (14, 13, 27), 1.0, 0.46, 61],
    "K400": [(0.18, 0.19, 0.62, 0.014), (11, 11, 38), (17, 17, 20), 0.64, 0.42, 68],
}


def half_a_digit(value):
    """Half a unit of the last printed digit, two digits of a count."""
    text = str(value)
    return 0.5 * 10.0 ** -(len(text.partition(".")[2])) * 1.02


@pytest.mark.parametrize("name", FIG4)
def test_what_figure_4_says_about_sampling(name):
    posterior = published(name)
    means, counts, counts7, agrees, valid, bits = TABLE[name]
    units, table = posterior.table()
    assert units == ("S", "ST", "S+ST")
    found = [*table.mean(0), np.mean(list(posterior.rest().values()))]
    for value, printed in zip(found, means, strict=True):
        assert abs(value - printed) <= half_a_digit(printed)
    table7 = posterior.table("eq7")[1]
    for many, printed in ((table.sum(0), counts), (table7.sum(0), counts7)):
        for value, digits in zip(many, printed, strict=True):
            assert abs(value - digits) <= half_a_digit(digits)
    best = np.array([units.index(unit) for unit in strategy(name)])
    assert abs((table7.argmax(1) == best).mean() - agrees) <= half_a_digit(agrees)
    assert abs(posterior.valid - valid) <= half_a_digit(valid)
    assert abs(posterior.entropy() / math.log(2) - bits) <= half_a_digit(bits)
    # Really drawn, nearly every layer is S+ST in the mode.
    assert posterior.mode().count("S+ST") >= 60


def test_gates_of_ucf101_have_hardly_moved():
    assert not published("UCF101").moved_from_init()["moved"]
    assert published("SSv1").moved_from_init()["moved"]
    probability = math.exp(published("UCF101").log_prob(strategy("UCF101")))
    assert 3.5e-7 < probability < 4.5e-7  # printed: 4e-7


@pytest.mark.parametrize("gate", gates.GATES)
def test_probabilities_of_all_strategies(gate):
    posterior = three(gate)
    every = list(itertools.product(*(slot.choices for slot in posterior.slots)))
    logs = np.array([posterior.log_prob(one) for one in every])
    np.testing.assert_allclose(np.exp(logs).sum(), posterior.valid, rtol=1e-5)
    assert every[int(logs.argmax())] == posterior.mode()
    if gate == "categorical":
        np.testing.assert_allclose(posterior.valid, 1, rtol=1e-5)
        entropy = -(np.exp(logs) * logs).sum()
        np.testing.assert_allclose(posterior.entropy(), entropy, rtol=1e-5)
    else:
        assert posterior.valid < 0.99
    for kind in ("sampling", "eq7"):
        for name, rest in posterior.rest(kind).items():
            p_s, p_t = (1 - on for on in posterior.path_on()[name].values())
            root = {"sampling": 1, "eq7": 0.5}[kind]
            if gate == "bernoulli":
                np.testing.assert_allclose(rest, (p_s * p_t) ** root, rtol=1e-4)
        assert set(posterior.marginals(kind)["s0"]) == {"S", "ST", "S+ST"}


@pytest.mark.parametrize("gate", gates.GATES)
def test_draws_have_the_marginals(gate):
    posterior = three(gate)
    drawn = posterior.sample(20_000, seed=1, unique=False)
    assert len(drawn) == 20_000
    for i, of in enumerate(posterior.marginals().values()):
        count = collections.Counter(units[i] for units in drawn)
        for unit, p in of.items():
            p /= sum(of.values())  # slots without paths are drawn again
            error = math.sqrt(p * (1 - p) / len(drawn))
            assert abs(count[unit] / len(drawn) - p) < 4 * error


def test_a_seed_gives_one_list_without_repetitions():
    posterior = three()
    some = posterior.sample(10, seed=3)
    assert some == posterior.sample(10, seed=3) != posterior.sample(10, seed=4)
    assert len(set(some)) == 10
    assert len(posterior.sample(100, seed=3)) == 27  # there are no more
    first = [("S",) * 3, posterior.mode(), ("S",) * 3]
    some = posterior.sample(6, seed=3, include=first)
    assert some[:2] == first[:2] and len(set(some)) == 6


def test_draws_meet_the_constraints():
    posterior = three()
    for limit in ({"max_params": 112}, {"max_macs": 112_000}):
        some = posterior.sample(8, cost=Cost, **limit)
        assert some and all(Cost(one).params <= 112 for one in some)
    least = math.exp(posterior.log_prob(posterior.mode()))
    assert posterior.sample(5, min_prob=least) == [posterior.mode()]
    likely = posterior.sample(27, min_prob=0.04)
    assert all(posterior.log_prob(one) >= math.log(0.04) for one in likely)
    every = itertools.product(*(slot.choices for slot in posterior.slots))
    count = sum(posterior.log_prob(one) >= math.log(0.04) for one in every)
    assert len(likely) == count


def test_rare_constraints_are_reached_by_tilting():
    """Of 1e5 draws from this posterior none has fewer than 40 of 61 layers of S+ST."""
    names = [f"s{i}" for i in range(61)]
    logits = {name: np.log([0.02, 0.03, 0.95]) for name in names}
    posterior = Posterior("categorical", slots(names), logits)

    class Counted:
        def __init__(self, units):
            self.params = units.count("S+ST")
            self.macs = 2 * self.params

    some = posterior.sample(50, cost=Counted, max_params=40)
    counts = [units.count("S+ST") for units in some]
    assert len(set(some)) == 50 and max(counts) <= 40
    assert np.mean(counts) > 36  # no more than needed
    st = sum(units.count("ST") for units in some) / sum(61 - c for c in counts)
    assert abs(st - 0.6) < 0.05  # what costs the same keeps its odds


def test_constraints_that_nobody_meets():
    posterior = three()
    with pytest.raises(UserError, match=r"max_params=105: the best has 106 params"):
        posterior.sample(3, cost=Cost, max_params=105)
    with pytest.raises(UserError, match=r"min_prob=0.99: the best has"):
        posterior.sample(3, min_prob=0.99)
    least = math.exp(posterior.log_prob(posterior.mode()))
    cheap = Cost(("S",) * 3).params
    assert posterior.mode() != ("S",) * 3
    with pytest.raises(UserError, match=r"meets max_params=106 and min_prob"):
        posterior.sample(3, cost=Cost, max_params=cheap, min_prob=least)
    with pytest.raises(UserError, match="cost=space.cost"):
        posterior.sample(3, max_macs=5)
    with pytest.raises(UserError, match="3 slots"):
        posterior.log_prob(("S",))
    with pytest.raises(UserError, match=r"unit of s0.*there are: S, S\+ST, ST"):
        posterior.sample(3, include=[("s", "S", "S")])
    with pytest.raises(UserError, match="kind of marginals"):
        posterior.marginals("eq8")
