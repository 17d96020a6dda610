"""Softmax attention: one signature, implementations that compute the same sums."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from stjax.errors import UserError, unknown
from stjax.ops import splash as tpu
from stjax.ops.chunked import CHUNK, chunked
from stjax.ops.splash import splash
from stjax.sharding import ring
from stjax.sharding.activations import constrain, devices_along

IMPLS = ("auto", "dense", "chunked", "splash", "cudnn")
MAX_LOGITS = 2**24
"""Logits an example (heads x queries x keys) beyond which 'auto' goes in chunks."""


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    scale: float = 1.0,
    bias: jax.Array | None = None,
    impl: str = "auto",
    chunk: int | None = None,
    spread: bool = False,
) -> jax.Array:
    """``softmax(scale * q k^T + bias) v``, softmax and logits in float32.

    Args:
      q: [B, N, heads, d].
      k: [B, M, heads, d].
      v: [B, M, heads, e].
      scale: of the logits; often ``d ** -0.5``.
      bias: added to the logits, broadcastable to [B, heads, N, M].
      impl: which arithmetic.

        - ``"dense"`` keeps all logits.
        - ``"chunked"`` keeps those of `chunk` queries and keys, and computes them
          again in the backward pass; reverse mode only (`jax.jvp` raises).
        - ``"splash"``: the kernel of `stjax.ops.splash`; a TPU, head sizes 32 to 512,
          no bias.
        - ``"cudnn"``: cuDNN's flash attention; only where cuDNN is installed, it
          cannot even be traced elsewhere. Half precision, head size a multiple of 8
          and at most 128 (256 on Hopper and later).
        - ``"auto"``: for the platform that the program is lowered for. On a TPU
          splash, where it can be used and N M is at least `stjax.ops.splash.MIN_PAIRS`.
          Otherwise dense up to `MAX_LOGITS` logits an example, chunked beyond.
      chunk: the most queries and keys of a chunk; by default `stjax.ops.chunked.CHUNK`.
      spread: queries and keys are positions of maps whose rows a mesh may split over
        ``space``. Where it does, and its devices divide the heads, each gets all
        tokens of some heads (DeepSpeed-Ulysses, arXiv 2309.14509: two all-to-alls).
        Otherwise keys go round in a ring, see `stjax.sharding.ring`, whatever `impl`
        says. With a bias, or lengths that the devices do not divide, XLA gathers keys.

    Returns:
      [B, N, heads, e] in the dtype of `v`.

    Raises:
      UserError: for an unknown `impl`, or one that cannot take these arguments.
    """
    if impl not in IMPLS:
        raise unknown("implementation of attention", impl, IMPLS)
    if bias is not None:
        bias = bias.reshape((1,) * (4 - bias.ndim) + bias.shape)
    if spread and devices_along("tokens") > 1 and bias is None:
        if q.shape[2] % devices_along("heads") == 0:
            q, k, v = (constrain(x, "batch", None, "heads") for x in (q, k, v))
            y = attention(q, k, v, scale=scale, impl=impl, chunk=chunk)
            y = constrain(y, "batch", None, "heads")  # its gradient too
            return constrain(y, "batch", "tokens")
        if ring.fits(q, k):
            return ring.ring_attention(q, k, v, scale)
    if impl == "cudnn":
        return _cudnn(q, k, v, bias, scale)
    if impl == "splash":
        if bias is not None:
            raise UserError("splash attention takes no bias; use impl='chunked'")
        return splash(q, k, v, scale)
    n, heads, m = q.shape[1], q.shape[2], k.shape[1]
    if impl == "chunked" or (impl == "auto" and heads * n * m > MAX_LOGITS):
        plain = partial(chunked, scale=scale, chunk=chunk or CHUNK)
    else:
        plain = partial(_dense, scale=scale)
    if impl == "auto" and n * m >= tpu.MIN_PAIRS and not tpu.refusal(q, v, bias):
        kernel = partial(splash, scale=scale)
        default = partial(plain, bias=None)
        return lax.platform_dependent(q, k, v, tpu=kernel, default=default)
    return plain(q, k, v, bias=bias)


def _dense(q, k, v, *, bias, scale):
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=wide) * scale
    if bias is not None:
        logits += bias.astype(wide)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    y = jnp.einsum("bhnm,bmhe->bnhe", weights, v, preferred_element_type=wide)
    return y.astype(v.dtype)


def _cudnn(q, k, v, bias, scale):
    d, e = q.shape[-1], v.shape[-1]
    half = (jnp.bfloat16, jnp.float16)
    if d != e or d % 8 or d > 256 or any(x.dtype not in half for x in (q, k, v)):
        raise UserError(
            f"cuDNN attention got heads of {d} and {e} channels in {q.dtype}; it takes"
            " equal multiples of 8 up to 128 (256 on Hopper and later) in bfloat16 or"
            " float16; use impl='chunked'"
        )
    try:
        return jax.nn.dot_product_attention(
            q, k, v, bias, scale=scale, implementation="cudnn"
        )
    except (RuntimeError, NotImplementedError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"cuDNN attention cannot be used here ({why}); use impl='chunked'"
        ) from error
