"""Layers that every model shares: convolution, normalisation, drop path."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import variance_scaling

from stjax.layers.depthwise import DepthwiseConv
from stjax.ops.batch_norm import batch_norm
from stjax.ops.conv import conv_nd
from stjax.ops.gelu import gelu as gelu  # exact; Flax's default is the tanh form

Dtype = jnp.dtype
torch_kernel_init = variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for convolutions and linear layers: U(+-1/sqrt(fan_in))."""

trunc_normal_init = nn.initializers.normal(0.02)
"""timm's trunc_normal_(std=.02): it cuts at +-2, not at two deviations, so nowhere."""


def fan_out_init(groups: int = 1) -> Callable:
    """N(0, 2 / fan_out), fan_out = window * C_out / groups (MMCV, OpenSTL)."""

    def init(key, shape, dtype=jnp.float32):
        fan_out = 1
        for n in (*shape[:-2], shape[-1]):
            fan_out *= n
        return jax.random.normal(key, shape, dtype) * (2 * groups / fan_out) ** 0.5

    return init


def torch_bias_init(fan_in: int) -> Callable:
    """PyTorch's default bias: U(+-1/sqrt(fan_in))."""

    def init(key, shape, dtype=jnp.float32):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def conv(
    in_features: int,
    features: int,
    kernel_size: int | Sequence[int],
    *,
    ndim: int = 2,
    strides: int | Sequence[int] = 1,
    padding: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    use_bias: bool = True,
    kernel_init: Callable | None = None,
    dtype: Dtype = jnp.float32,
    name: str | None = None,
    function: Callable = conv_nd,
    residual: bool = False,
) -> nn.Conv:
    """An `nn.Conv` with PyTorch's conventions on `stjax.ops.conv.conv_nd`.

    Padding is symmetric: by default ``dilation * (kernel_size - 1) // 2`` on both
    sides (Flax's 'SAME' pads strided convolutions differently). Kernel and bias are
    initialised as PyTorch does, or, with a `kernel_init`, by it and zeros. Another
    `function` with the signature of `conv_nd` may take its place. With `residual`,
    which is for depthwise ones, the input is added to the result.
    """

    def spread(value):
        return (value,) * ndim if isinstance(value, int) else tuple(value)

    window, dilations = spread(kernel_size), spread(dilation)
    if padding is None:
        pads = tuple(d * (k - 1) // 2 for k, d in zip(window, dilations, strict=True))
    else:
        pads = spread(padding)
    fan_in = in_features // groups
    for k in window:
        fan_in *= k
    zeros = nn.initializers.zeros
    depthwise = groups == in_features == features and (residual or features > 1)
    depthwise &= function is conv_nd and use_bias and set(spread(strides)) == {1}
    if residual and not depthwise:
        raise ValueError("residual is for depthwise convolutions with a bias, stride 1")
    kind = partial(DepthwiseConv, residual=residual) if depthwise else nn.Conv
    return kind(
        features,
        window,
        strides=spread(strides),
        padding=tuple((p, p) for p in pads),
        kernel_dilation=dilations,
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=kernel_init or torch_kernel_init,
        bias_init=zeros if kernel_init else torch_bias_init(fan_in),
        conv_general_dilated=function,
        dtype=dtype,
        name=name,
    )


class BatchNorm(nn.Module):
    """Batch normalisation over all but the last axis, as PyTorch computes it.

    Statistics are float32 and, under `jax.jit` with a sharded batch, global. The
    running variance is the unbiased one (Flax keeps the biased one).

    Attributes:
      momentum: of the running statistics; 0.9 is PyTorch's 0.1.
      epsilon: added to the variance.
      scale_init: of the scale; zeros make a residual branch vanish at birth.
      frozen: always by the running statistics, with a scale and a bias that are not
        trained: what fine-tuning with few clips a batch needs.
      folded: as in `stjax.ops.batch_norm.batch_norm`.
      dtype: of the result.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Callable = nn.initializers.ones
    frozen: bool = False
    folded: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, groups: int = 1) -> jax.Array:
        """Normalises `x` [B, ..., C]; with ``train`` by its own statistics.

        Args:
          x: activations.
          train: by batch statistics, and update the running ones.
          groups: parts of the batch, each with its own statistics (see
            `grouped_batch_norm`); the running ones get their mean.
        """
        c = x.shape[-1]
        scale = self.param("scale", self.scale_init, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        if self.frozen:
            train, scale, bias = False, *jax.lax.stop_gradient((scale, bias))
        stat = "batch_stats"
        mean = self.variable(stat, "mean", jnp.zeros, (c,), jnp.float32)
        var = self.variable(stat, "var", jnp.ones, (c,), jnp.float32)
        if not train:
            y = x.astype(jnp.float32)
            gain = scale * jax.lax.rsqrt(var.value + self.epsilon)
            return ((y - mean.value) * gain + bias).astype(self.dtype)
        parts = x.reshape(groups, x.shape[0] // groups, *x.shape[1:])
        y, *now = batch_norm(parts, scale, bias, self.epsilon, self.dtype, self.folded)
        if not self.is_initializing():
            n, m = x.size // c // groups, self.momentum
            batch_mean, batch_var = (s.mean(0) for s in now)
            unbiased = batch_var * (n / max(n - 1, 1))
            mean.value = m * mean.value + (1 - m) * batch_mean
            var.value = m * var.value + (1 - m) * unbiased
        return y.reshape(x.shape)


def grouped_batch_norm(groups: int):
    """A context in which every `BatchNorm` takes statistics over parts of the batch.

    Under `jax.jit` the statistics of a batch are global, over all devices. Published
    runs had those of each GPU, of 16 clips or fewer ("ghost" batch normalisation):
    ``groups`` is the batch over that number. Groups are neighbours in the batch, so
    that devices do not have to talk where their number divides ``groups``.
    """

    def interceptor(function, args, kwargs, context):
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            kwargs = {**kwargs, "groups": groups}
        return function(*args, **kwargs)

    return nn.intercept_methods(interceptor)


class DropPath(nn.Module):
    """Stochastic depth: drops the whole residual branch of a sample.

    The kept branches are scaled by 1 / (1 - rate) (timm's DropPath). Draws from the
    rng stream 'dropout'. In a loop over blocks the rate is a traced scalar.
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """`x` [B, ...] with some samples zeroed in training."""
        known = not isinstance(self.rate, jax.Array)  # or one of a loop over blocks
        if not train or (known and self.rate == 0.0):
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        mask = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
        return x * (mask / keep).astype(x.dtype)


def layer_norm(epsilon: float, dtype: Dtype, name: str) -> nn.LayerNorm:
    """Layer normalisation over channels, statistics in float32 and two passes."""
    return nn.LayerNorm(
        epsilon=epsilon, use_fast_variance=False, dtype=dtype, name=name
    )


def layer_scale(module: nn.Module, name: str, y: jax.Array, init: float) -> jax.Array:
    """`y` [..., D] times a learned factor a channel, a parameter of `module`."""
    scale = module.param(name, nn.initializers.constant(init), y.shape[-1:])
    return y * scale.astype(y.dtype)
