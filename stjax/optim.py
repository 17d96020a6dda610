"""Optimizers with PyTorch's arithmetic, and the schedules the papers trained with.

`create_optimizer` reads the ``optim`` part of a config. The result has optax's
``init`` and ``update``, takes its step from its own state, and says with ``values``
what learning rate and beta1 a step uses. Adam follows `torch.optim.Adam`: eps outside
the square root, and the bias correction uses the *current* beta1, which the OneCycle
schedule moves from .95 to .85 and back.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from stjax import schedules
from stjax.errors import UserError, unknown
from stjax.param_groups import grouped, names, with_gates
from stjax.schedules import Schedule
from stjax.stacked import unstacked_names


class OptimizerState(NamedTuple):
    """Steps taken, and the running moments (shaped like the parameters, or None)."""

    count: jax.Array
    mu: optax.Params | None
    nu: optax.Params | None


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optax-style optimizer that can tell its schedule.

    Attributes:
      init: ``params -> state``.
      update: ``(grads, state, params) -> (updates, state)``; add the updates.
      values: ``step -> {'lr': ..., 'beta1': ...}``, what the update of that 0-based
        step uses (``state.count`` is the next one); ``beta1`` only for Adam.
      trained: ``tree -> tree``: the part of the parameters or gradients that is not
        frozen.
    """

    init: Callable[[optax.Params], OptimizerState]
    update: Callable[..., tuple[optax.Updates, OptimizerState]]
    values: Callable[[jax.Array | int], dict[str, jax.Array]]
    trained: Callable[[optax.Params], optax.Params] = lambda tree: tree


def create_optimizer(
    name: str = "adam",
    *,
    lr: float,
    total_steps: int,
    steps_per_epoch: int = 1,
    schedule: str = "constant",
    clip: float | None = None,
    weight_decay: float | None = None,
    decay_1d: bool = True,
    freeze: Sequence[str] | None = None,
    layer_decay: float | None = None,
    layer_order: Sequence[str] | None = None,
    gates_lr: float | None = None,
    **fields: object,
) -> Optimizer:
    """The optimizer of a config. Fields that are None take their default.

    Args:
      name: ``'adam'`` (weight decay joins the gradient), ``'adamw'`` (decoupled decay)
        or ``'sgd'``.
      lr: peak learning rate.
      total_steps: optimizer steps of the whole training.
      steps_per_epoch: optimizer steps of one epoch; the unit of epochs and warm-ups.
      schedule: ``'constant'``, ``'onecycle'`` (torch, per step, with the beta1 cycle),
        ``'cosine'`` (timm, per epoch), ``'cosine_iterations'`` (UniFormer, SlowFast) or
        ``'steps'``; see `stjax.schedules` for their fields.
      clip: largest global gradient norm (torch's ``clip_grad_norm_``), or None.
      weight_decay: 0 if None.
      decay_1d: False leaves biases, norm and layer scales out of the decay.
      freeze: regular expressions; parameters with a name (``blocks1_0/attn/bias``) in
        which one is found stay as they are.
      layer_decay: factor of the learning rate from a layer to the one before it.
      layer_order: what the layers are, see `stjax.param_groups.layer_indices`.
      gates_lr: learning rate of the gates of a template, which are left to an Adam of
        their own (`stjax.param_groups.with_gates`); None where there are none.
      **fields: of the optimizer (Adam: ``beta1 beta2 eps``; SGD: ``momentum
        nesterov``) and of the schedule (such as ``warmup``, in epochs).

    Raises:
      UserError: an unknown name or field.
    """
    if name not in _OPTIMIZERS:
        raise unknown("optimizer", name, _OPTIMIZERS)
    if schedule not in _SCHEDULES:
        raise unknown("schedule", schedule, _SCHEDULES)
    if total_steps < 1 or steps_per_epoch < 1:
        raise UserError(
            f"an optimizer needs at least 1 step and 1 step per epoch, got "
            f"total_steps={total_steps}, steps_per_epoch={steps_per_epoch}"
        )
    fields = {key: value for key, value in fields.items() if value is not None}
    of_rule = _known(_OPTIMIZERS[name])
    of_schedule = _known(_SCHEDULES[schedule])
    given = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    open_fields = (of_rule | of_schedule) - given.keys()
    for field in fields.keys() - open_fields:
        known = open_fields | _COMMON
        raise unknown(f"field of optim ({name}, {schedule})", field, known)
    _need(_SCHEDULES[schedule], fields.keys() | given.keys(), schedule)
    pick = {k: v for k, v in (fields | given).items() if k in of_schedule}
    curves = _SCHEDULES[schedule](lr, **pick)
    decay = _Decay(weight_decay or 0.0, name == "adamw", bool(decay_1d))
    pick = {k: v for k, v in fields.items() if k in of_rule}
    optimizer = _OPTIMIZERS[name](curves, decay, clip, **pick)
    optimizer = grouped(optimizer, freeze, layer_decay, layer_order)
    if gates_lr is None:
        return optimizer
    of_gates = _adam(_constant(gates_lr), _Decay(0.0, False, True), None)
    return with_gates(optimizer, of_gates)


def clip_by_global_norm(grads: optax.Updates, clip: float | None) -> optax.Updates:
    """Scales by ``min(1, clip / (norm + 1e-6))``, as torch's ``clip_grad_norm_``."""
    if clip is None:
        return grads
    scale = jnp.minimum(1.0, clip / (global_norm(grads) + 1e-6))
    return jax.tree.map(lambda grad: grad * scale, grads)


def global_norm(tree: optax.Updates) -> jax.Array:
    """The square root of the sum of all squares, float32 [] (optax renames its own)."""
    squares = (jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree))
    return jnp.sqrt(sum(squares, jnp.zeros(())))


class _Curves(NamedTuple):
    lr: Schedule
    beta1: Schedule | None = None  # None: the optimizer's own


class _Decay(NamedTuple):
    rate: float
    decoupled: bool
    of_1d: bool

    def term(self, params):
        """``rate * params``, 0 where the decay does not apply."""

        def of(path, p):
            ndim = p.ndim - (len(unstacked_names(path)) > 1)  # of one block
            return self.rate * p if self.of_1d or ndim > 1 else jnp.zeros_like(p)

        leaves, treedef = jax.tree.flatten(params)
        terms = map(of, names(params), leaves)
        return jax.tree.unflatten(treedef, terms)

    def joined(self, grads, params):
        if not self.rate or self.decoupled:
            return grads
        return jax.tree.map(jnp.add, grads, self.term(params))

    def step(self, updates, lr, params):
        """The update ``-lr * (updates + decay)``."""
        if self.rate and self.decoupled:
            updates = jax.tree.map(jnp.add, updates, self.term(params))
        return jax.tree.map(lambda u: -lr * u, updates)


def _adam(curves, decay, clip, *, beta1=0.9, beta2=0.999, eps=1e-8):
    beta1_at = curves.beta1 or schedules.constant(beta1)

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return OptimizerState(
            jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.copy, zeros)
        )

    def update(grads, state, params=None):
        grads = decay.joined(clip_by_global_norm(grads, clip), params)
        now = values(state.count)
        b1, t = now["beta1"], state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(
            lambda v, g: beta2 * v + (1 - beta2) * jnp.square(g), state.nu, grads
        )
        # expm1: 1 - beta2**t in float32 would lose four digits in the first steps.
        correct1 = -jnp.expm1(t * jnp.log(b1))
        correct2 = jnp.sqrt(-jnp.expm1(t * math.log(beta2)))
        updates = jax.tree.map(
            lambda m, v: m / correct1 / (jnp.sqrt(v) / correct2 + eps), mu, nu
        )
        updates = decay.step(updates, now["lr"], params)
        return updates, OptimizerState(state.count + 1, mu, nu)

    def values(step):
        return {"lr": curves.lr(step), "beta1": beta1_at(step)}

    return Optimizer(init, update, values)


def _sgd(curves, decay, clip, *, momentum=0.0, nesterov=False):
    def init(params):
        mu = jax.tree.map(jnp.zeros_like, params) if momentum else None
        return OptimizerState(jnp.zeros((), jnp.int32), mu, None)

    def update(grads, state, params=None):
        grads = decay.joined(clip_by_global_norm(grads, clip), params)
        mu, updates = state.mu, grads
        if momentum:
            mu = jax.tree.map(lambda m, g: momentum * m + g, mu, grads)
            updates = mu
            if nesterov:
                updates = jax.tree.map(lambda m, g: g + momentum * m, mu, grads)
        updates = decay.step(updates, curves.lr(state.count), params)
        return updates, OptimizerState(state.count + 1, mu, None)

    return Optimizer(init, update, lambda step: {"lr": curves.lr(step)})


def _constant(lr):
    return _Curves(schedules.constant(lr))


def _onecycle(
    lr,
    *,
    total_steps,
    pct_start=0.3,
    div_factor=25.0,
    final_div_factor=1e4,
    beta1_low=0.85,
    beta1_high=0.95,
):
    cycle = {"total_steps": total_steps, "pct_start": pct_start}
    first = lr / div_factor
    return _Curves(
        schedules.onecycle(lr, first, first / final_div_factor, **cycle),
        schedules.onecycle(beta1_low, beta1_high, beta1_high, **cycle),
    )


def _plain(builder):
    """A schedule that leaves beta1 alone."""

    def build(lr, **fields):
        return _Curves(builder(lr, **fields))

    build.__signature__ = inspect.signature(builder)
    return build


_COMMON = {"clip", "weight_decay", "decay_1d", "freeze", "layer_decay"}
_OPTIMIZERS = {"adam": _adam, "adamw": _adam, "sgd": _sgd}
_SCHEDULES = {
    "constant": _constant,
    "onecycle": _onecycle,
    "cosine": _plain(schedules.cosine_epochs),
    "cosine_iterations": _plain(schedules.cosine_iterations),
    "steps": _plain(schedules.steps),
}


def _keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return [p for p in parameters if p.kind is p.KEYWORD_ONLY]


def _known(function):
    return {parameter.name for parameter in _keywords(function)}


def _need(function, given, schedule):
    for parameter in _keywords(function):
        if parameter.default is parameter.empty and parameter.name not in given:
            raise UserError(
                f"schedule {schedule!r} needs optim.{parameter.name}; set it"
            )
