"""A network that holds all strategies of a search, and its gates."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stjax.errors import UserError
from stjax.layers.slots import ALL, Masks, Slot
from stjax.search import gates

# What training and evaluation ask a model for, where it has it.
_FORWARDED = ("num_classes", "head_names", "frozen", "layer_order", "any_length")


class Template(nn.Module):
    """A model with slots, whose paths go through gates.

    Its variables are those of the model, under the same names, and the logits
    ``params/gates/NAME`` (slashes of a slot's name become dots). In training every
    example has its own soft masks (stream ``dropout``) and the KL term of the
    objective, divided by ``n_train``, is sown into ``losses``, once a step whatever
    the batch. Otherwise the most probable unit of every slot runs: no randomness.
    With ``masks`` the gates are left alone, and there is no KL term either.

    Attributes:
      model: with slots; ``units`` of it are those that the search needs.
      units: allowed in each slot (`stjax.search.allowed`); None: all of them.
      gate: ``"categorical"`` or ``"bernoulli"``, see `stjax.search.gates`.
      objective: ``"spike_slab"``, ``"code"`` or ``"paper_eq5"``.
      temperature: of the relaxation.
      straight_through: hard masks in training, with the gradient of soft ones.
      group: neighbours in a batch that have the same masks; 1 as published. Where they
        also share batch statistics (``train.bn_group``), these are of one strategy in
        training, as they are when it is ranked; else they are those of a mixture.
      p_init: probability to drop a path before training.
      prior: the same under the prior.
      unit_prior: (unit, weight) pairs in place of it, of a categorical gate; a unit
        that is not named weighs 1.
      weight_reg: k^2 / 2 of the prior N(0, 1 / k^2) of the kernels of a path.
      norm: of kernels: ``"per_weight"``, or ``"per_function"``: a kernel over time
        counts as many times as it has taps, because inflation divides it by them.
      nats: of every slot: (module, what keeping it costs besides).
      n_train: training clips N; nothing but training needs it.
      sampled: False: the most probable units also in training.
    """

    model: nn.Module
    units: tuple[tuple[str, ...], ...] | None = None
    gate: str = "categorical"
    objective: str = "spike_slab"
    temperature: float = 0.2
    straight_through: bool = False
    group: int = 1
    p_init: float = 0.1
    prior: float = 0.5
    unit_prior: tuple[tuple[str, float], ...] = ()
    weight_reg: float = 0.0
    norm: str = "per_weight"
    nats: tuple[tuple[tuple[str, float], ...], ...] | None = None
    n_train: int | None = None
    sampled: bool = True

    def __post_init__(self):
        for name in _FORWARDED:  # absent here where it is absent there
            if hasattr(self.model, name):
                object.__setattr__(self, name, getattr(self.model, name))
        if not hasattr(self.model, "features"):
            object.__setattr__(self, "features", None)
        super().__post_init__()

    def setup(self):
        """One scope: the model's variables keep their names."""
        nn.share_scope(self, self.model)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Those of the model, with the units that are allowed."""
        return restricted(self.model.slots, self.units)

    @property
    def measuring(self) -> "Template":
        """The same for measuring batch statistics: those of what is evaluated."""
        model = self.model
        if getattr(model, "scan", False):  # a layer is measured where it is called
            model = model.clone(scan=False)
        return self.clone(model=model, sampled=False)

    def __call__(self, x, *, train: bool = False, masks: Masks | None = None, **kwargs):
        """As the model; ``masks`` as in `stjax.layers.slots`."""
        return self._run(type(self.model).__call__, x, train, masks, kwargs)

    def features(self, x, *, train: bool = False, masks: Masks | None = None, **kwargs):
        """As those of a recogniser."""
        return self._run(type(self.model).features, x, train, masks, kwargs)

    @nn.compact
    def _run(self, method: Callable, x, train, masks, kwargs):
        logits = self.param("gates", lambda _: self.initial_logits())
        mine = masks is None
        if mine:
            soft = train and self.sampled
            masks = self._sample(logits, len(x)) if soft else self.mode_masks(logits)
        y = method(self.model, x, train=train, masks=masks, **kwargs)
        if train and self.sampled and mine:
            if not self.n_train:
                raise UserError(
                    "a template is trained with the number of training clips; set"
                    " search.n_train"
                )
            params = self.variables["params"]
            kl = self.kl(logits, params) / self.n_train
            self.sow("losses", "gates", kl)
        return y

    def initial_logits(self) -> dict[str, jax.Array]:
        """{name of a gate: logits before training}."""
        return {
            gate_name(slot): jnp.asarray(
                gates.initial_logits(self.gate, uses_of(slot), self.p_init)
            )
            for slot in self.slots
        }

    def mode_masks(self, logits: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Hard masks [P] of the most probable unit of every slot."""
        return {
            slot.name: gates.mode_mask(
                self.gate, logits[gate_name(slot)], uses_of(slot)
            )
            for slot in self.slots
        }

    def kl(self, logits: Mapping[str, jax.Array], params: Mapping) -> jax.Array:
        """The KL term of the whole training set in nats.

        Args:
          logits: of the gates.
          params: of the model.
        """
        total = jnp.zeros(())
        nats = self.nats or ((),) * len(self.slots)
        for slot, costs in zip(self.slots, nats, strict=True):
            modules, groups = sharing(slot)
            norms = [sqnorm(params, slot, name, self.norm) for name in modules]
            total += gates.regulariser(
                self.gate,
                logits[gate_name(slot)],
                uses_of(slot),
                jnp.stack(norms),
                objective=self.objective,
                weight_reg=self.weight_reg,
                prior=self.prior_of(slot),
                nats=np.float32([dict(costs).get(name, 0.0) for name in modules]),
                groups=groups,
            )
        return total

    def told(self, logits: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """What a training writes about its gates.

        Args:
          logits: of the gates.

        Returns:
          ``gates/entropy`` in nats, ``gates/moved``, the mean total variation from
          the start, and the probability of every unit, ``gates/SLOT/UNIT``.
        """
        logits = jax.device_get(logits)
        found, moved, entropy = {}, [], []
        start = self.initial_logits()
        for slot in self.slots:
            name, uses = gate_name(slot), uses_of(slot)
            p, p0 = (
                jnp.exp(gates.unit_log_probs(self.gate, of[name], uses))
                for of in (logits, start)
            )
            moved.append(jnp.abs(p - p0).sum() / 2)
            entropy.append(gates.entropy(self.gate, logits[name]))
            for unit, value in zip(slot.choices, p, strict=True):
                found[f"gates/{name}/{unit}"] = value
        summary = {
            "gates/entropy": sum(entropy),
            "gates/moved": sum(moved) / len(moved),
        }
        return jax.device_get(summary | found)

    def prior_of(self, slot: Slot) -> float | np.ndarray:
        """Drop probability, or of a categorical gate those of the units [U]."""
        if self.gate == "bernoulli":
            return self.prior
        if not self.unit_prior:
            return gates.unit_prior(uses_of(slot), self.prior)
        weights = [dict(self.unit_prior).get(unit, 1.0) for unit in slot.choices]
        return np.asarray(weights) / sum(weights)

    def _sample(self, logits, batch: int) -> dict[str, jax.Array]:
        key = self.make_rng("dropout")
        found = {}
        for i, slot in enumerate(self.slots):
            drawn = gates.soft_masks(
                jax.random.fold_in(key, i),
                self.gate,
                logits[gate_name(slot)],
                uses_of(slot),
                self.temperature,
                -(-batch // self.group),
                self.straight_through,
            )
            found[slot.name] = jnp.repeat(drawn, self.group, axis=0)[:batch]
        return found


def gate_name(slot: Slot) -> str:
    """The name of a slot's logits in ``params/gates``."""
    return slot.name.replace("/", ".")


def restricted(
    slots: Sequence[Slot], units: Sequence[Sequence[str]] | None
) -> tuple[Slot, ...]:
    """The slots with these units only, in the order that they have there."""
    if units is None:
        return tuple(slots)
    return tuple(
        dataclasses.replace(
            slot, units=tuple(pair for pair in slot.units if pair[0] in some)
        )
        for slot, some in zip(slots, units, strict=True)
    )


def built_units(
    slots: Sequence[Slot], units: Sequence[Sequence[str]]
) -> str | tuple[str, ...]:
    """The units that a template is built with: all paths that may be needed.

    Per slot the smallest unit that has the paths of all allowed ones, or ``"all"``.
    """
    found = []
    for slot, some in zip(slots, units, strict=True):
        needed = {path for unit in some for path in slot.kept(unit)}
        enough = [u for u in slot.choices if needed <= set(slot.kept(u))]
        smallest = min(enough, key=lambda u: len(slot.kept(u)), default=ALL)
        more = len(slot.paths) > len(needed)
        found.append(smallest if more else ALL)
    return ALL if set(found) == {ALL} else tuple(found)


def uses_of(slot: Slot) -> np.ndarray:
    """Which paths the units keep, [U, P] of 0 and 1."""
    kept = [slot.kept(unit) for unit in slot.choices]
    return np.float32([[path in some for path in slot.paths] for some in kept])


def sharing(slot: Slot) -> tuple[tuple[str, ...], np.ndarray]:
    """Modules of a slot, and which paths run each of them, [G, P] of 0 and 1."""
    modules = tuple(dict.fromkeys(m for _, used in slot.modules for m in used))
    groups = [[name in used for _, used in slot.modules] for name in modules]
    return modules, np.float32(groups).reshape(len(modules), len(slot.paths))


def sqnorm(params: Mapping, slot: Slot, module: str, norm: str) -> jax.Array:
    """Squared norm of the kernels of a module of a slot; 0 where it is not built.

    Kernels are arrays of two and more axes. ``"per_function"``: times their taps in
    time, the first axis of [T, in, out] and [T, H, W, in, out].
    """
    at = params
    for name in "/".join(filter(None, (slot.name, module))).split("/"):
        at = at.get(name, {})
    own = at if module else {k: v for k, v in at.items() if not isinstance(v, Mapping)}
    total = jnp.zeros(())
    for kernel in flax.traverse_util.flatten_dict(dict(own)).values():
        if kernel.ndim < 2:
            continue
        taps = kernel.shape[0] if kernel.ndim in (3, 5) else 1
        scale = taps if norm == "per_function" else 1
        total += scale * jnp.square(kernel.astype(jnp.float32)).sum()
    return total
