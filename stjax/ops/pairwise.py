"""Aggregates of the non-local operation (Wang et al., CVPR 2018, arXiv 1711.07971).

``y_i = 1 / C(x) * sum_j f(x_i, x_j) g(x_j)``, equation 1. Gaussian and embedded
Gaussian are a softmax over j (equations 2 and 3); the dot product (equation 4) and the
concatenation (equation 5) divide by the number of positions. Each has a dense
reference and exact forms that never hold the affinity of all pairs.
"""

import jax
import jax.numpy as jnp

from stjax.errors import UserError, unknown
from stjax.ops.attention import IMPLS as ATTENTION
from stjax.ops.attention import attention
from stjax.ops.concatenation import IMPLS as CONCATENATION
from stjax.ops.concatenation import concatenation
from stjax.sharding.activations import devices_along

IMPLS = {
    "embedded_gaussian": ATTENTION,
    "gaussian": ATTENTION,
    "dot_product": ("auto", "dense", "linear"),
    "concatenation": CONCATENATION,
}
"""Pairwise functions and their implementations, equal in value and gradient."""
PAIRWISE = tuple(IMPLS)


def aggregate(
    theta: jax.Array,
    phi: jax.Array,
    g: jax.Array,
    *,
    pairwise: str = "embedded_gaussian",
    scale: float = 1.0,
    weight: jax.Array | None = None,
    impl: str = "auto",
    spread: bool = False,
) -> jax.Array:
    """The non-local mean of `g` as each position of `theta` sees it.

    Args:
      theta: queries [B, N, d].
      phi: keys [B, M, d].
      g: values [B, M, e].
      pairwise: a name in `PAIRWISE`; the two Gaussians differ only in what is given.
      scale: of ``theta . phi`` in the Gaussians; the official code has ``d ** -0.5``,
        the paper 1. The other two have none.
      weight: of the concatenation, and only there: [2 d], first theta's half.
      impl: a name in ``IMPLS[pairwise]``; ``"auto"`` decides by shape (and, for the
        Gaussians, by the platform the program is lowered for):

        - Gaussians: `stjax.ops.attention.attention`.
        - dot product: ``"dense"`` is ``(theta phi^T) g``, ``"linear"`` is
          ``theta (phi^T g)``; auto takes the one with fewer multiply-adds.
        - concatenation: `stjax.ops.concatenation.concatenation`.

      spread: positions are those of maps whose rows a mesh may split over ``space``,
        see `stjax.ops.attention.attention`. The dot product is then linear by default
        and sums ``phi^T g`` over the devices; the concatenation gathers keys.

    Returns:
      [B, N, e] in the dtype of `g`.

    Raises:
      UserError: for an unknown `pairwise` or `impl`, or a `weight` that is missing,
        not wanted or of the wrong shape.
    """
    if pairwise not in PAIRWISE:
        raise unknown("pairwise function", pairwise, PAIRWISE)
    if impl not in IMPLS[pairwise]:
        raise unknown(f"implementation of {pairwise}", impl, IMPLS[pairwise])
    got = None if weight is None else weight.shape
    expected = (2 * theta.shape[-1],) if pairwise == "concatenation" else None
    if got != expected:
        raise UserError(f"weight of {pairwise} is {got}; expected {expected}")
    if pairwise == "dot_product":
        if spread and impl == "auto" and devices_along("tokens") > 1:
            impl = "linear"
        return _dot_product(theta, phi, g, impl)
    if pairwise == "concatenation":
        return concatenation(theta, phi, g, weight, impl=impl)
    heads = [x[:, :, None] for x in (theta, phi, g)]
    return attention(*heads, scale=scale, impl=impl, spread=spread)[:, :, 0]


def _dot_product(theta, phi, g, impl):
    """(theta phi^T) g / M; auto multiplies in the order that is cheaper.

    Where that is the dense one, the affinity is no larger than theta and phi are.
    """
    n, m, d, e = theta.shape[1], phi.shape[1], phi.shape[2], g.shape[2]
    kw = {"preferred_element_type": jnp.promote_types(g.dtype, jnp.float32)}
    if impl == "auto":
        impl = "linear" if (n + m) * d * e < n * m * (d + e) else "dense"
    if impl == "linear":
        summary = jnp.einsum("bmd,bme->bde", phi, g, **kw) / m
        y = jnp.einsum("bnd,bde->bne", theta, summary.astype(g.dtype), **kw)
    else:
        affinity = jnp.einsum("bnd,bmd->bnm", theta, phi, **kw) / m
        y = jnp.einsum("bnm,bme->bne", affinity.astype(g.dtype), g, **kw)
    return y.astype(g.dtype)
