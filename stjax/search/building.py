"""The template of a config."""

from collections.abc import Callable, Mapping

import ml_collections
from flax import linen as nn

from stjax.data.base import Spec
from stjax.errors import UserError, unknown
from stjax.layers.slots import ALL
from stjax.search.allowed import allowed_units
from stjax.search.section import unit_prior
from stjax.search.template import Template, built_units

_SAME = (  # fields of both
    *("gate", "objective", "temperature", "straight_through"),
    *("group", "p_init", "prior", "weight_reg", "norm", "n_train"),
)


def create_template(
    config: ml_collections.ConfigDict,
    spec: Spec,
    model: Callable[..., nn.Module],
    fields: Mapping[str, object],
) -> Template:
    """The template that ``config.search`` describes.

    Args:
      config: all of it.
      spec: of the clips; tells what paths cost.
      model: makes the model from its fields.
      fields: of the model; its units follow from the search.

    Raises:
      UserError: the model has no slots, its units are given, or `search.units` or
        `search.unit_prior` do not suit it.
    """
    search, fields = config.search, dict(fields)
    given = fields.pop("units", ALL)
    if given != ALL:
        raise UserError(
            f"model.units={given!r} chooses a strategy, and search.gate searches one;"
            " leave one of them out"
        )
    slots = whole_slots(model, fields)
    units = allowed_units(slots, search.units)
    prior = unit_prior(search.unit_prior)
    known = {unit for some in units for unit in some}
    for unit, _ in prior:
        if unit not in known:
            raise unknown("unit in search.unit_prior", unit, known)
    return Template(
        model(**fields, units=built_units(slots, units)),
        units=units,
        unit_prior=prior,
        nats=_nats(config, spec) if search.cost_weight else None,
        **{key: search[key] for key in _SAME},
    )


def whole_slots(model: Callable[..., nn.Module], fields: Mapping[str, object]):
    """The slots of a model with all its units.

    Raises:
      UserError: it has none.
    """
    if not hasattr(model(**fields), "slots"):
        return allowed_units(())  # or rather an error
    return model(**fields, units=ALL).slots


def _nats(config: ml_collections.ConfigDict, spec: Spec):
    """What keeping each module of each slot costs: a path of mean cost cost_weight."""
    from stjax.search.space import create_space  # it builds models itself

    space, kind = create_space(config, spec), config.search.cost
    paths = [c for of in space.path_costs().values() for c in of.values()]
    total = sum(getattr(cost, kind) for cost in paths)
    unit = config.search.cost_weight * len(paths) / max(total, 1)
    return tuple(
        tuple((name, unit * getattr(cost, kind)) for name, cost in modules)
        for modules in space.modules
    )
