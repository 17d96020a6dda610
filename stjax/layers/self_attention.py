"""Multi-head self-attention with one projection to queries, keys and values."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from stjax.errors import UserError
from stjax.layers.common import Dtype, trunc_normal_init
from stjax.ops.attention import attention
from stjax.ops.splash_projected import projected, projects


def self_attention(
    x: jax.Array,
    heads: int,
    *,
    dtype: Dtype,
    bias: jax.Array | None = None,
    qkv_init: Callable = trunc_normal_init,
    proj_init: Callable = trunc_normal_init,
    spread: bool = False,
) -> jax.Array:
    """To be called inside a compact method; makes qkv and proj there.

    At birth weights are N(0, 0.02), unless told otherwise, and biases zero; logits are
    divided by the root of a head's width.

    Args:
      x: [B, N, D].
      heads: must divide D.
      dtype: compute dtype.
      bias: added to the logits, broadcastable to [B, heads, N, N].
      qkv_init: of the kernel of qkv.
      proj_init: of the kernel of proj.
      spread: see `stjax.ops.attention.attention`.

    Returns:
      [B, N, D].

    Raises:
      UserError: if the heads do not divide D.
    """
    b, n, d = x.shape
    if d % heads:
        raise UserError(
            f"{heads} attention heads need a width (hid_t and T * hid_s) divisible by "
            f"{heads}, got {d}"
        )
    kernels = {"qkv": (3 * d, qkv_init), "proj": (d, proj_init)}
    if bias is None and projects(x, heads):
        weights = [_Weights(*v, dtype, name=k)(d) for k, v in kernels.items()]
        return _by_platform(x.astype(dtype), *weights[0], *weights[1], heads=heads)
    qkv, proj = (
        nn.Dense(n, kernel_init=init, dtype=dtype, name=name)
        for name, (n, init) in kernels.items()
    )
    qkv = qkv(x).reshape(b, n, 3, heads, d // heads)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    y = attention(q, k, v, scale=(d // heads) ** -0.5, bias=bias, spread=spread)
    return proj(y.reshape(b, n, d))


def _by_platform(x, *weights, heads):
    """The form for a TPU, or the plain one."""

    def plain(x, qkv_kernel, qkv_bias, proj_kernel, proj_bias):
        qkv = (x @ qkv_kernel + qkv_bias).reshape(*x.shape[:2], 3, heads, -1)
        q, k, v = jnp.moveaxis(qkv, 2, 0)
        y = attention(q, k, v, scale=(x.shape[-1] // heads) ** -0.5)
        return y.reshape(x.shape) @ proj_kernel + proj_bias

    tpu = partial(projected, heads=heads)
    return lax.platform_dependent(x, *weights, tpu=tpu, default=plain)


class _Weights(nn.Module):
    """Parameters of an `nn.Dense`."""

    features: int
    kernel_init: Callable
    dtype: Dtype

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        shape, zeros = (inputs, self.features), nn.initializers.zeros
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", zeros, shape[1:])
        return kernel.astype(self.dtype), bias.astype(self.dtype)


class SelfAttention(nn.Module):
    """`self_attention` as a module of its own."""

    heads: int = 8
    dtype: Dtype = jnp.float32
    qkv_init: Callable = trunc_normal_init
    proj_init: Callable = trunc_normal_init
    spread: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, N, D] -> [B, N, D]."""
        return self_attention(
            x,
            self.heads,
            dtype=self.dtype,
            qkv_init=self.qkv_init,
            proj_init=self.proj_init,
            spread=self.spread,
        )
