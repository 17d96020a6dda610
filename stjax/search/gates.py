"""Variational DropPath: gates over the paths of a slot, as pure functions.

A slot has P paths and U units; ``uses`` [U, P] says which paths a unit keeps. There
are two kinds of gates:

* ``"bernoulli"``: a drop logit for every path [P], independent binary Concrete gates
  as published. A slot may lose all its paths.
* ``"categorical"``: a logit for every unit [U], relaxed by Gumbel-softmax. One unit
  is chosen always, and its probability is the marginal.

Source: "Spatiotemporal Fusion in 3D CNNs: A Probabilistic View" (CVPR 2020, arXiv
2004.04981); relaxations of Maddison et al. and Jang et al. (2017). All is float32.
"""

import jax
import jax.numpy as jnp
import numpy as np

GATES = ("categorical", "bernoulli")
OBJECTIVES = ("spike_slab", "code", "paper_eq5")
NORMS = ("per_weight", "per_function")
LIMIT = 12.0
"""Logits are clipped to +-LIMIT where they become probabilities."""

_EDGE = 1e-6  # of the uniform noise, so that its logarithms are finite


def bounded(logits: jax.Array) -> jax.Array:
    """Logits in [-LIMIT, LIMIT], float32.

    The gradient passes, so that a gate which has gone too far can come back.
    """
    logits = jnp.asarray(logits, jnp.float32)
    clipped = jnp.clip(logits, -LIMIT, LIMIT)
    return logits + jax.lax.stop_gradient(clipped - logits)


def concrete_keep(
    key: jax.Array,
    drop_logits: jax.Array,
    temperature: float,
    batch: int,
    straight_through: bool = False,
) -> jax.Array:
    """Masks of independent gates, a draw for every example and path.

    Args:
      key: of the randomness.
      drop_logits: [P], logit of the probability to drop a path.
      temperature: of the relaxation; 0.2 as published.
      batch: number of examples.
      straight_through: 0 or 1 forward, with the gradient of the relaxation.

    Returns:
      [batch, P] in (0, 1), ``1 - sigmoid((drop logit + logistic noise) / tau)``.
      It is not divided by the probability to keep, as published.
    """
    a = bounded(drop_logits)
    u = jax.random.uniform(key, (batch, *a.shape), minval=_EDGE, maxval=1 - _EDGE)
    keep = jax.nn.sigmoid(-(a + jnp.log(u) - jnp.log1p(-u)) / temperature)
    if straight_through:
        keep += jax.lax.stop_gradient((keep > 0.5).astype(keep.dtype) - keep)
    return keep


def gumbel_units(
    key: jax.Array,
    logits: jax.Array,
    temperature: float,
    batch: int,
    straight_through: bool = False,
) -> jax.Array:
    """Weights of the units, a draw of the Gumbel-softmax for every example.

    Args:
      key: of the randomness.
      logits: [U], of the units.
      temperature: of the relaxation.
      batch: number of examples.
      straight_through: one unit forward, with the gradient of the relaxation.

    Returns:
      [batch, U], each row adds up to 1. Its largest entry is unit u with exactly the
      probability ``softmax(logits)[u]``, at any temperature.
    """
    log_p = jax.nn.log_softmax(bounded(logits))
    noise = jax.random.gumbel(key, (batch, *log_p.shape))
    y = jax.nn.softmax((log_p + noise) / temperature)
    if straight_through:
        hard = jax.nn.one_hot(y.argmax(-1), y.shape[-1], dtype=y.dtype)
        y += jax.lax.stop_gradient(hard - y)
    return y


def soft_masks(
    key: jax.Array,
    gate: str,
    logits: jax.Array,
    uses: np.ndarray,
    temperature: float,
    batch: int,
    straight_through: bool = False,
) -> jax.Array:
    """Masks of the paths of a slot in training, [batch, P]."""
    if gate == "bernoulli":
        return concrete_keep(key, logits, temperature, batch, straight_through)
    units = gumbel_units(key, logits, temperature, batch, straight_through)
    return units @ jnp.asarray(uses, jnp.float32)


def unit_log_probs(gate: str, logits: jax.Array, uses: np.ndarray) -> jax.Array:
    """Log-probability that exactly the paths of a unit are on, [U].

    Of independent gates they add up to less than 1 where some sets of paths, such as
    none at all, are no unit.
    """
    if gate == "categorical":
        return jax.nn.log_softmax(bounded(logits))
    a, uses = bounded(logits), jnp.asarray(uses, jnp.float32)
    return uses @ jax.nn.log_sigmoid(-a) + (1 - uses) @ jax.nn.log_sigmoid(a)


def path_on(
    gate: str, logits: jax.Array, uses: np.ndarray, groups: np.ndarray | None = None
) -> jax.Array:
    """Probability that a path is on, [P].

    Args:
      gate: kind of gate.
      logits: of the slot.
      uses: [U, P].
      groups: [G, P]; with it, that any of the paths of a group is on, [G].
    """
    uses = jnp.asarray(uses, jnp.float32)
    groups = jnp.eye(uses.shape[1]) if groups is None else jnp.asarray(groups)
    if gate == "bernoulli":
        log_drop = jax.nn.log_sigmoid(bounded(logits))
        return -jnp.expm1(groups.astype(jnp.float32) @ log_drop)
    touched = (uses @ groups.T > 0).astype(jnp.float32)  # [U, G]
    return jax.nn.softmax(bounded(logits)) @ touched


def mode_mask(gate: str, logits: jax.Array, uses: np.ndarray) -> jax.Array:
    """Mask [P] of the most probable unit."""
    best = unit_log_probs(gate, logits, uses).argmax()
    return jnp.asarray(uses, jnp.float32)[best]


def unit_prior(uses: np.ndarray, p_drop: float) -> np.ndarray:
    """Probabilities of the units [U] when each path is dropped with ``p_drop``.

    Independent paths, given that they make a unit: ``(1-p)^on p^off``, normalised. .5
    gives every unit the same; .1 gives S, ST and S+ST 1/11, 1/11 and 9/11.
    """
    on = np.asarray(uses, np.float64).sum(1)
    weights = (1 - p_drop) ** on * p_drop ** (uses.shape[1] - on)
    return weights / weights.sum()


def initial_logits(gate: str, uses: np.ndarray, p_init: float) -> np.ndarray:
    """Logits of a slot before training, float32.

    Each path is dropped with probability ``p_init`` (.1 as published); of a
    categorical gate that is `unit_prior` of it.
    """
    if gate == "categorical":
        return np.log(unit_prior(uses, p_init)).astype(np.float32)
    return np.full(uses.shape[1], np.log(p_init / (1 - p_init)), np.float32)


def neg_entropy(drop_logits: jax.Array) -> jax.Array:
    """``p log p + (1-p) log(1-p)`` of binary gates, elementwise."""
    a = jnp.asarray(drop_logits, jnp.float32)
    p = jax.nn.sigmoid(a)
    return p * jax.nn.log_sigmoid(a) + (1 - p) * jax.nn.log_sigmoid(-a)


def entropy(gate: str, logits: jax.Array) -> jax.Array:
    """Of the distribution of a slot, in nats."""
    return -divergence(gate, logits, "code")


def divergence(
    gate: str, logits: jax.Array, objective: str, prior: float | np.ndarray = 0.5
) -> jax.Array:
    """What the distribution of a slot costs, in nats.

    Args:
      gate: kind of gate.
      logits: of the slot.
      objective: ``"spike_slab"``, the KL divergence from the prior; ``"code"``, minus
        the entropy (both differ by a constant for a prior of .5); ``"paper_eq5"``, the
        sum of ``p log p`` over drop probabilities, as printed, of independent gates.
      prior: drop probability, or of a categorical gate the probabilities of the units.
    """
    a = bounded(logits)
    if gate == "categorical":
        log_p = jax.nn.log_softmax(a)
        log_prior = jnp.log(prior) if objective == "spike_slab" else 0.0
        return (jnp.exp(log_p) * (log_p - log_prior)).sum()
    p = jax.nn.sigmoid(a)
    if objective == "paper_eq5":
        return (p * jax.nn.log_sigmoid(a)).sum()
    total = neg_entropy(a)
    if objective == "spike_slab":
        total -= p * jnp.log(prior) + (1 - p) * jnp.log1p(-prior)
    return total.sum()


def regulariser(
    gate: str,
    logits: jax.Array,
    uses: np.ndarray,
    sqnorms: jax.Array,
    *,
    objective: str = "spike_slab",
    weight_reg: float = 0.0,
    prior: float | np.ndarray = 0.5,
    nats: np.ndarray | float = 0.0,
    groups: np.ndarray | None = None,
) -> jax.Array:
    """The KL term of a slot in nats; its share of the loss of an example is 1/N of it.

    ``divergence + sum_g P(g is on) (weight_reg ||theta_g||^2 + nats_g)``: equation (*)
    of the marginal KL for ``"code"``, of the joint one for ``"spike_slab"``.

    Args:
      gate: kind of gate.
      logits: of the slot.
      uses: [U, P].
      sqnorms: [G], squared norm of the weights of every group.
      objective: see `divergence`.
      weight_reg: k^2 / 2, of a prior N(0, 1 / k^2) of the weights.
      prior: see `divergence`.
      nats: [G], what keeping a group costs besides, of ``"spike_slab"``.
      groups: [G, P], the paths that share weights; None: each path has its own.
    """
    cost = weight_reg * jnp.asarray(sqnorms, jnp.float32) + jnp.asarray(nats)
    on = path_on(gate, logits, uses, groups)
    return divergence(gate, logits, objective, prior) + (on * cost).sum()
