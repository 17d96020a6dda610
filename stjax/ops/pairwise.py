"""Aggregates of the non-local operation (Wang et al., CVPR 2018, arXiv 1711.07971).

``y_i = 1 / C(x) * sum_j f(x_i, x_j) g(x_j)``, equation 1. Gaussian and embedded
Gaussian are a softmax over j; the dot product divides by the number of positions.
"""

import jax
import jax.numpy as jnp

from stjax.errors import unknown
from stjax.ops.attention import attention

PAIRWISE = ("embedded_gaussian", "gaussian", "dot_product")


def aggregate(
    theta: jax.Array,
    phi: jax.Array,
    g: jax.Array,
    *,
    pairwise: str = "embedded_gaussian",
    scale: float = 1.0,
    impl: str = "auto",
) -> jax.Array:
    """The non-local mean of `g` as each position of `theta` sees it.

    Args:
      theta: queries [B, N, d].
      phi: keys [B, M, d].
      g: values [B, M, e].
      pairwise: a name in `PAIRWISE`; the two Gaussians differ only in what is given.
      scale: of ``theta . phi``; the official code has ``d ** -0.5`` in the softmax,
        the paper 1. The dot product has none.
      impl: of `stjax.ops.attention.attention`.

    Returns:
      [B, N, e] in the dtype of `g`.

    Raises:
      UserError: for an unknown `pairwise`.
    """
    if pairwise not in PAIRWISE:
        raise unknown("pairwise function", pairwise, PAIRWISE)
    if pairwise == "dot_product":
        return _dot_product(theta, phi, g)
    heads = [x[:, :, None] for x in (theta, phi, g)]
    return attention(*heads, scale=scale, impl=impl)[:, :, 0]


def _dot_product(theta, phi, g):
    """(theta phi^T) g / M, multiplied in the order that is cheaper."""
    n, m, d, e = theta.shape[1], phi.shape[1], phi.shape[2], g.shape[2]
    kw = {"preferred_element_type": jnp.float32}
    if (n + m) * d * e < n * m * (d + e):
        summary = jnp.einsum("bmd,bme->bde", phi, g, **kw) / m
        y = jnp.einsum("bnd,bde->bne", theta, summary.astype(g.dtype), **kw)
    else:
        affinity = jnp.einsum("bnd,bmd->bnm", theta, phi, **kw) / m
        y = jnp.einsum("bnm,bme->bne", affinity.astype(g.dtype), g, **kw)
    return y.astype(g.dtype)
