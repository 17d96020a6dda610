"""The ``search`` section of a config."""

import ml_collections
from ml_collections import config_dict

from stjax.errors import UserError, unknown

CHOICES = {
    "gate": ("categorical", "bernoulli"),
    "objective": ("spike_slab", "code", "paper_eq5"),
    "norm": ("per_weight", "per_function"),
    "cost": ("params", "macs"),
}


def search_section() -> dict:
    """Its fields; `stjax.search.template.Template` tells more of most of them.

    Fields that need a word:
      gate: "categorical" or "bernoulli": the model is a template whose slots get gates;
        None: no search.
      objective: "spike_slab", "code" or "paper_eq5".
      group: clips of a batch with the same masks; give train.bn_group the same number,
        and a strategy is trained with batch statistics of its own.
      p_init, prior: probability to drop a path, before training and under the prior.
      unit_prior: such as ("S=2", "ST=1"), weights of units in place of ``prior``.
      weight_reg: k^2 / 2 of the prior of the kernels of the paths. They have the weight
        decay of ``optim`` besides.
      cost_weight: nats that keeping a path of mean cost takes; others take as many more
        as they have more parameters or MACs (``cost``).
      lr: of the gates, which have an Adam of their own: constant, no decay or clipping.
      units: which units a slot may have, such as ("layer4*=ST,S+ST",).
      warmup: what a phase without gates before does differently, such as
        ("train.epochs=50", "optim.weight_decay=5e-4"); nothing: there is no such phase.
      n_train: training clips N of the objective; None: as many as there are.
      holdout: share of the training clips that is the validation split; None: the
        source's own.
    """
    return {
        "gate": config_dict.placeholder(str),
        "objective": "spike_slab",
        "temperature": 0.2,
        "straight_through": False,
        "group": 1,
        "p_init": 0.1,
        "prior": 0.5,
        "unit_prior": (),
        "weight_reg": 0.0,
        "norm": "per_weight",
        "cost": "params",
        "cost_weight": 0.0,
        "lr": 1e-2,
        "units": (),
        "warmup": (),
        "n_train": config_dict.placeholder(int),
        "holdout": config_dict.placeholder(float),
    }


def check_search(search: ml_collections.ConfigDict) -> None:
    """Checks the fields of a search with gates.

    Raises:
      UserError: a choice is none of the possible ones, a number is out of range, or
        two fields contradict each other.
    """
    for key, known in CHOICES.items():
        if search[key] not in known:
            raise unknown(f"value of search.{key}", str(search[key]), known)
    for key in ("p_init", "prior"):
        if not 0 < search[key] < 1:
            raise UserError(f"search.{key}={search[key]} must lie between 0 and 1")
    for key in ("temperature", "lr"):
        if not search[key] > 0:
            raise UserError(f"search.{key}={search[key]} must be above 0")
    for key in ("weight_reg", "cost_weight"):
        if not search[key] >= 0:
            raise UserError(f"search.{key}={search[key]} must not be negative")
    if search.group < 1:
        raise UserError(f"search.group={search.group}; it has to be at least 1")
    if search.n_train is not None and search.n_train < 1:
        raise UserError(f"search.n_train={search.n_train}; it has to be at least 1")
    if search.objective == "paper_eq5" and search.gate != "bernoulli":
        raise UserError(
            "search.objective='paper_eq5' is of independent gates; set search.gate to"
            " 'bernoulli', or take 'code' or 'spike_slab'"
        )
    if search.cost_weight and search.objective != "spike_slab":
        raise UserError(
            f"search.cost_weight={search.cost_weight} is a part of 'spike_slab', and"
            f" search.objective is {search.objective!r}; change one"
        )
    if search.unit_prior and search.gate != "categorical":
        raise UserError(
            "search.unit_prior is of a categorical gate; set search.prior, the drop"
            " probability, for 'bernoulli'"
        )
    unit_prior(search.unit_prior)


def unit_prior(pairs: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """``("S=2",)`` as ``(("S", 2.0),)``.

    Raises:
      UserError: one is not UNIT=WEIGHT with a weight above 0.
    """
    found = []
    for text in pairs:
        unit, _, weight = text.rpartition("=")
        try:
            value = float(weight)
        except ValueError:
            value = 0.0
        if not unit or not 0 < value < float("inf"):
            raise UserError(
                f"search.unit_prior: got {text!r}, expected UNIT=WEIGHT with a weight"
                " above 0, such as 'S=2'"
            )
        found.append((unit.strip(), value))
    return tuple(found)
